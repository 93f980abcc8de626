// Who was here: when, for how long, how it ended and by whom.
import { END_REASONS } from "../client.js";
import { html, useEffect, useMemo } from "../html.js";
import { canRead } from "../state/account.js";
import { manage } from "../state/api.js";
import { Pages } from "../state/pages.js";
import { address, go, route } from "../state/route.js";
import { duration } from "../text/format.js";
import { endName, endTone } from "../text/names.js";
import { callIt } from "../text/status.js";
import { Badge, Button, Empty } from "../ui/controls.js";
import { Text } from "../ui/text.js";
import { Ago } from "../ui/time.js";
import { By } from "./details.js";
import { Kinds, Range, span } from "./filters.js";
import { More } from "./more.js";

/** @typedef {import("../client.js").SessionInfo} SessionInfo */

/** @param {{app: import("../state/applications.js").Known}} props */
export function Ended({ app }) {
  const { range, from, to, reasons } = route.value;
  const known = reasons.filter(reason => END_REASONS.includes(/** @type {any} */ (reason)));
  const pages = useMemo(() => new Pages(), []);
  const read = () => {
    const { from: endedAfter, to: endedBefore } = span();
    const endReason = /** @type {import("../client.js").EndReason[]} */ (known);
    void pages.read((cursor, signal) => manage.sessions(app.id, { status: "inactive", details: true, limit: 50, cursor, endedAfter, endedBefore, endReason, signal }));
  };
  useEffect(() => { if (canRead.value && app.id) read(); }, [app.id, range, from, to, known.join()]);
  useEffect(() => () => pages.close(), []);
  if (!canRead.value) return html`<${Empty} icon="key" title="This key cannot read sessions">It lacks the scope <code>sessions:read</code>.<//>`;
  return html`
    <div class="heading"><div><h1>Ended sessions</h1></div></div>
    <section class="card" aria-label="Ended sessions">
      <div class="toolbar">
        <${Range} />
        <${Kinds} label="reason" usual="Any reason" all=${END_REASONS} chosen=${known} name=${endName} onChange=${(/** @type {string[]} */ reasons) => go({ reasons }, { replace: true })} />
        <${Button} onClick=${read}>Refresh<//>
      </div>
      ${pages.partial.value && html`<p class="note warn">Not every server, or not the database, can be seen: the list is not complete.</p>`}
      <${List} items=${pages.items.value ?? []} />
      <${More} pages=${pages} what="session" icon="clock" title="No session ended" none="None in this time, and for these reasons, that is still kept." />
    </section>
  `;
}

/** @param {{items: SessionInfo[]}} props */
const List = ({ items }) => html`
  <div class="table ended" role="table" aria-label="Ended sessions" hidden=${items.length === 0}>
    <div class="thead" role="rowgroup"><div class="tr" role="row">
      <div role="columnheader">Login</div><div role="columnheader">License</div><div role="columnheader">Client ID</div>
      <div role="columnheader">IP address</div><div role="columnheader">Connected</div><div role="columnheader">Lasted</div>
      <div role="columnheader">How it ended</div><div role="columnheader">Ended</div>
    </div></div>
    <div class="tbody" role="rowgroup">${items.map(session => html`<${One} key=${session.id} session=${session} />`)}</div>
  </div>
`;

/** @param {{session: SessionInfo}} props */
function One({ session }) {
  const { details, createdAt, connectedAt = createdAt, disconnectedAt } = session;
  const lasted = disconnectedAt ? Date.parse(disconnectedAt) - Date.parse(connectedAt) : 0;
  return html`
    <div class="tr" role="row" data-session=${session.id} data-who=${details ? callIt(details) : session.name}>
      <div role="cell" class="login"><a class="row-link" href=${address({ ...route.value, session: session.id })}>
        <${Text} value=${details?.login} none=${details ? "no login" : session.name} /></a></div>
      <div role="cell" class="license mono"><${Text} value=${details?.license} /></div>
      <div role="cell" class="client mono"><${Text} value=${details?.clientId} /></div>
      <div role="cell" class="ip mono"><${Text} value=${details?.ipAddress} /></div>
      <div role="cell" class="began quiet"><${Ago} at=${connectedAt} /></div>
      <div role="cell" class="lasted tabular">${disconnectedAt ? duration(lasted) : "—"}</div>
      <div role="cell" class="how"><${Badge} tone=${disconnectedAt ? endTone(details?.endReason) : "warn"}>
        ${disconnectedAt ? endName(details?.endReason) : "Token expired, still connected"}<//>
        ${details?.endedBy && html`<span class="by"> by <${By} who=${details.endedBy} /></span>`}</div>
      <div role="cell" class="when"><${Ago} at=${disconnectedAt ?? createdAt} /></div>
    </div>
  `;
}
