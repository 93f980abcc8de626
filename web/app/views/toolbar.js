// The search, and what can be done with what it finds.
import { CATEGORIES } from "../client.js";
import { html, useEffect, useId, useRef } from "../html.js";
import { canDisconnect } from "../state/account.js";
import { open } from "../state/dialogs.js";
import { moving, view } from "../state/live.js";
import { go, route } from "../state/route.js";
import { count } from "../text/format.js";
import { CATEGORY_NAMES } from "../text/names.js";
import { Button } from "../ui/controls.js";
import { Icon } from "../ui/icons.js";

const PAUSE = 120;

/** @param {{app: import("../state/applications.js").Known}} props */
export function Toolbar({ app }) {
  const matching = view.value?.filteredTotal ?? 0;
  return html`
    <div class="toolbar" role="search">
      <${Search} />
      <${Categories} />
      ${canDisconnect.value && app.id && route.value.search && html`
        <${Button} kind="danger" icon="cut" small disabled=${matching === 0 || moving.value} onClick=${() => open({ kind: "matching" })}>
          Disconnect ${count(matching)} matching…
        <//>
      `}
    </div>
  `;
}

function Search() {
  const id = useId();
  const input = useRef(/** @type {HTMLInputElement | null} */ (null));
  const timer = useRef(/** @type {ReturnType<typeof setTimeout> | undefined} */ (undefined));
  const { search } = route.value;
  // The address changes under the field when somebody goes back; while it is typed in, it is ahead of the address.
  useEffect(() => {
    const field = input.current;
    if (field && field.value !== search && !timer.current) field.value = search;
  }, [search]);
  useEffect(() => () => clearTimeout(timer.current), []);
  const settle = () => {
    clearTimeout(timer.current);
    timer.current = undefined;
    const value = /** @type {HTMLInputElement} */ (input.current).value;
    if (value !== route.value.search) go({ search: value, page: 1 }, { replace: true });
  };
  const onInput = () => {
    clearTimeout(timer.current);
    timer.current = setTimeout(settle, PAUSE);
  };
  const onKeyDown = (/** @type {KeyboardEvent} */ event) => {
    const field = /** @type {HTMLInputElement} */ (input.current);
    if (event.key === "Escape") {
      event.preventDefault();
      if (field.value) {
        field.value = "";
        settle();
      } else field.blur();
    } else if (event.key === "Enter") settle();
    else if (event.key === "ArrowDown") {
      event.preventDefault();
      settle();
      /** @type {HTMLElement | null} */ (document.querySelector("main .tbody a.row-link"))?.focus();
    }
  };
  return html`
    <div class="search">
      <label class="offscreen" for=${id}>Search the live sessions</label>
      <${Icon} name="search" />
      <input id=${id} ref=${input} type="search" maxlength="128" autocomplete="off" spellcheck="false" dir="auto" enterkeyhint="search"
        placeholder="License, IP address or client ID" onInput=${onInput} onKeyDown=${onKeyDown} />
      ${moving.value ? html`<span class="spinner" aria-hidden="true"></span>` : html`<kbd aria-hidden="true">/</kbd>`}
    </div>
  `;
}

/** Where the search looks: at least in one column. */
function Categories() {
  const { categories } = route.value;
  const toggle = (/** @type {import("../client.js").Category} */ category) => {
    const on = categories.includes(category);
    if (on && categories.length === 1) return;
    go({ categories: CATEGORIES.filter(one => (one === category ? !on : categories.includes(one))), page: 1 }, { replace: true });
  };
  return html`
    <div class="chips" role="group" aria-label="Search in">
      ${CATEGORIES.map(category => html`
        <button key=${category} type="button" class="chip" aria-pressed=${categories.includes(category)} data-category=${category}
          onClick=${() => toggle(category)}>${CATEGORY_NAMES[category]}</button>
      `)}
    </div>
  `;
}
