// The page of live sessions, which changes under your eyes but not under your pointer.
import { html, useMemo, useRef } from "../html.js";
import { hold, rows, turn, view, waiting } from "../state/live.js";
import { go } from "../state/route.js";
import { columns } from "../text/names.js";
import { plural } from "../text/format.js";
import { Button, Empty } from "../ui/controls.js";
import { Text } from "../ui/text.js";
import { Ago } from "../ui/time.js";
import { MANY, useMotion } from "./motion.js";
import { Row } from "./row.js";

/** What is drawn of a row that did not change is drawn once: Preact passes over it. @type {WeakMap<import("../state/hold.js").Shown, any>} */
const drawn = new WeakMap();

/** @param {import("../state/hold.js").Shown} shown @param {number} key */
function draw(shown, key) {
  const { row, gone } = shown;
  if (!drawn.has(shown)) drawn.set(shown, html`<${Row} key=${key} row=${row} gone=${gone} />`);
  return drawn.get(shown);
}

/** Which element shows a row, by server id. @type {Map<string, number>} */
let keys = new Map();
let made = 0;

/** @param {readonly import("../state/hold.js").Shown[]} shown */
function assign(shown) {
  const next = new Map(shown.map(({ row }) => [row.serverId, keys.get(row.serverId)]));
  const come = [...next].filter(([, key]) => key === undefined);
  const left = come.length > MANY ? [...keys].filter(([id]) => !next.has(id)).map(([, key]) => key) : [];
  come.forEach(([id], i) => next.set(id, left[i] ?? ++made));
  keys = /** @type {Map<string, number>} */ (next);
  return keys;
}

export function Table() {
  const body = useRef(/** @type {HTMLElement | null} */ (null));
  const shown = rows.value;
  const places = useMemo(() => assign(shown), [shown]);
  useMotion(body, shown, turn.value);
  const over = (/** @type {PointerEvent} */ event) => {
    if (event.pointerType !== "mouse") return;
    const row = /** @type {Element} */ (event.target).closest("[data-id]");
    hold(row instanceof HTMLElement ? row.dataset.id ?? null : null);
  };
  return html`
    <div class="waiting-above" role="status">
      ${waiting.value > 0 && html`<span>${plural(waiting.value, "newer row")} when the pointer leaves</span>`}
    </div>
    <div class="table" role="table" aria-label="Live sessions" hidden=${shown.length === 0}>
      <div class="thead" role="rowgroup">
        <div class="tr" role="row">
          <div role="columnheader">Login</div><div role="columnheader">License</div><div role="columnheader">Client ID</div>
          <div role="columnheader">IP address</div><div role="columnheader">Node</div><div role="columnheader">Connected</div>
          <div role="columnheader"><span class="offscreen">Actions</span></div>
        </div>
      </div>
      <div class="tbody" role="rowgroup" ref=${body} onPointerOver=${over} onPointerLeave=${() => hold(null)}>
        ${shown.map(one => draw(one, /** @type {number} */ (places.get(one.row.serverId))))}
      </div>
    </div>
    ${shown.length === 0 && html`<${Nothing} />`}
  `;
}

function Nothing() {
  const { total = 0, filteredTotal = 0, lastConnectionTime = 0, query } = view.value ?? {};
  if (query?.search) {
    if (filteredTotal > 0) return html`<${PastTheEnd} />`;
    return html`
      <${Empty} icon="search" title="No session matches"
        action=${html`<${Button} onClick=${() => go({ search: "", page: 1 })}>Clear the search<//>`}>
        None of ${plural(total, "live session")} has “<${Text} value=${query.search} />” in ${columns(query.categories ?? [], "or")}.
      <//>
    `;
  }
  if (total > 0) return html`<${PastTheEnd} />`;
  return html`
    <${Empty} icon="plug" title="Nobody is connected">
      ${lastConnectionTime ? html`The last connection was <${Ago} at=${lastConnectionTime} />.` : "The first session appears here by itself."}
    <//>
  `;
}

const PastTheEnd = () => html`
  <${Empty} icon="list" title="This page is empty" action=${html`<${Button} onClick=${() => go({ page: 1 })}>To the first page<//>`}>
    There are fewer sessions than this page begins with.
  <//>
`;
