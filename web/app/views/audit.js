// Who changed what: the organization's audit records.
import { ACTIONS } from "../client.js";
import { html, useEffect, useId, useMemo } from "../html.js";
import { account, may } from "../state/account.js";
import { manage } from "../state/api.js";
import { applications } from "../state/applications.js";
import { Pages } from "../state/pages.js";
import { go, route } from "../state/route.js";
import { count } from "../text/format.js";
import { actionName } from "../text/names.js";
import { Badge, Button, Empty } from "../ui/controls.js";
import { plain, Text } from "../ui/text.js";
import { Ago } from "../ui/time.js";
import { Kinds, Range, span } from "./filters.js";
import { More } from "./more.js";

/** @typedef {import("../client.js").AuditRecord} AuditRecord */

/** A busy backend issues tokens all day: they are shown to who asks for them. */
const CHANGES = ACTIONS.filter(action => action !== "session_token.issued");

export function Audit() {
  const { range, from, to, actions, application } = route.value;
  const known = actions.filter(action => ACTIONS.includes(/** @type {any} */ (action)));
  const id = applications.value?.find(app => app.ref === application || app.id === application)?.id;
  const pages = useMemo(() => new Pages(), []);
  const ready = may("audit:read") && (!application || applications.value !== null);
  const read = () => {
    const action = known.length ? /** @type {import("../client.js").Action[]} */ (known) : CHANGES;
    const times = span();
    void pages.read((cursor, signal) => manage.audit({ limit: 50, cursor, action, applicationId: id, ...times, signal }));
  };
  useEffect(() => { if (ready) read(); }, [ready, id, range, from, to, known.join()]);
  useEffect(() => () => pages.close(), []);
  if (!may("audit:read")) return html`<${Empty} icon="key" title="This key cannot read the audit">It lacks the scope <code>audit:read</code>.<//>`;
  return html`
    <div class="heading"><div><h1>Audit</h1></div></div>
    <section class="card" aria-label="Audit records">
      <div class="toolbar">
        <${Range} />
        <${Kinds} label="action" usual="All changes" all=${ACTIONS} chosen=${known} name=${actionName} onChange=${(/** @type {string[]} */ actions) => go({ actions }, { replace: true })} />
        <${Which} />
        <${Button} onClick=${read}>Refresh<//>
      </div>
      ${pages.partial.value && html`<p class="note warn">The database does not answer: the list is not complete.</p>`}
      <${List} items=${pages.items.value ?? []} />
      <${More} pages=${pages} what="record" icon="list" title="No records" none="Nothing was changed in this time." />
    </section>
  `;
}

/** Which application: any, or one. */
function Which() {
  const id = useId();
  const { application } = route.value;
  const apps = applications.value ?? [];
  if (apps.length < 2 && !application) return null;
  return html`
    <label class="offscreen" for=${id}>Application</label>
    <select id=${id} onChange=${(/** @type {any} */ event) => go({ application: event.target.value }, { replace: true })}>
      <option value="" selected=${!application}>Any application</option>
      ${apps.map(app => html`<option key=${app.ref} value=${app.ref} selected=${app.ref === application}>${plain(app.name)}</option>`)}
    </select>
  `;
}

/** @param {{items: AuditRecord[]}} props */
const List = ({ items }) => html`
  <div class="table audit" role="table" aria-label="Audit records" hidden=${items.length === 0}>
    <div class="thead" role="rowgroup"><div class="tr" role="row">
      <div role="columnheader">Action</div><div role="columnheader">By</div><div role="columnheader">Application</div><div role="columnheader">What</div>
      <div role="columnheader">Sessions</div><div role="columnheader">Reason</div><div role="columnheader">From</div><div role="columnheader">When</div>
    </div></div>
    <div class="tbody" role="rowgroup">${items.map(record => html`<${One} key=${record.id} record=${record} />`)}</div>
  </div>
`;

/** @param {{record: AuditRecord}} props */
function One({ record }) {
  const app = applications.value?.find(one => one.id === record.applicationId);
  const search = record.details?.searchString;
  return html`
    <div class="tr" role="row" data-action=${record.action}>
      <div role="cell" class="action"><${Badge} tone=${tone(record.action)}>${actionName(record.action)}<//></div>
      <div role="cell" class="actor"><${Actor} actor=${record.actor} /></div>
      <div role="cell" class="app"><${Text} value=${app?.name ?? record.applicationId} /></div>
      <div role="cell" class="target mono"><${Text} value=${record.target ?? (typeof search === "string" ? search : null)} /></div>
      <div role="cell" class="number tabular">${record.count === null ? html`<span class="none">—</span>` : count(record.count)}</div>
      <div role="cell" class="reason"><${Text} value=${record.reason} /></div>
      <div role="cell" class="ip mono"><${Text} value=${record.ipAddress} /></div>
      <div role="cell" class="when"><${Ago} at=${record.time} /></div>
    </div>
  `;
}

/** @param {{actor: AuditRecord["actor"]}} props */
function Actor({ actor }) {
  if (actor.type !== "api_key") return html`<span>${actor.type === "admin" ? "Admin" : "Bootstrap file"}</span>`;
  const mine = actor.publicId === account.value?.key.publicId;
  return html`<span title=${actor.publicId}><${Text} value=${actor.name ?? actor.publicId} />${mine && html` <span class="quiet">(this key)</span>`}</span>`;
}

/** @param {string} action */
const tone = action => (/disconnected|revoked|archived/.test(action) ? "bad" : /paused/.test(action) ? "warn" : "quiet");
