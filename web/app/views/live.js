// Who is connected, as it changes.
import { html } from "../html.js";
import { canDisconnect, canRead, may } from "../state/account.js";
import { refused } from "../state/api.js";
import { open } from "../state/dialogs.js";
import { connection, refusal, view } from "../state/live.js";
import { explain } from "../state/api.js";
import { Badge, Button, Copy, Empty, Loading } from "../ui/controls.js";
import { Text } from "../ui/text.js";
import { Chart } from "./chart.js";
import { Counters } from "./counters.js";
import { FirstRun } from "./firstrun.js";
import { Pager } from "./pager.js";
import { Table } from "./table.js";
import { Toolbar } from "./toolbar.js";

/** @typedef {import("../state/applications.js").Known} Known */

/** @param {{app: Known}} props */
export function Live({ app }) {
  return html`
    <${Heading} app=${app} />
    <${Body} app=${app} />
  `;
}

/** @param {{app: Known}} props */
function Heading({ app }) {
  return html`
    <div class="heading">
      <div>
        <h1><${Text} value=${app.name} /></h1>
        <${Pulse} />
        ${app.state !== "active" && html`<${Badge} tone="warn">${app.state}<//>`}
        ${app.number && html`<span class="tag mono">${app.number}<${Copy} value=${app.number} label="Copy the number" /></span>`}
      </div>
      <div class="actions">
        ${may("sessions:create") && html`<${Button} icon="plug" onClick=${() => open({ kind: "connect" })}>Connect a client<//>`}
        ${canDisconnect.value && app.id && html`
          <${Button} kind="danger" icon="cut" onClick=${() => open({ kind: "revoke" })}>Revoke all…<//>`}
      </div>
    </div>
  `;
}

/** Whether what is shown is true now. */
function Pulse() {
  const live = !connection.value.stale && !refusal.value;
  return html`<span class="pulse ${live ? "on" : "off"}"><span class="dot"></span>${live ? "Live" : "Not live"}</span>`;
}

/** @param {{app: Known}} props */
function Body({ app }) {
  if (!canRead.value) {
    return html`<${Empty} icon="key" title="This key cannot read sessions">It lacks the scope <code>sessions:read</code>.<//>`;
  }
  if (refusal.value) return html`<${Refused} error=${refusal.value} />`;
  const shown = view.value;
  if (!shown) return html`<${Loading} label="Asking who is connected" />`;
  if (shown.total === 0 && shown.lastConnectionTime === 0 && !shown.partial) return html`<${FirstRun} app=${app} />`;
  return html`
    <${Counters} />
    <${Chart} />
    <section class="card sessions" aria-label="Live sessions">
      <${Toolbar} app=${app} />
      <${Table} />
      <${Pager} />
    </section>
  `;
}

/** @param {{error: Error}} props */
function Refused({ error }) {
  const title = refused(error, "plan_restricted") ? "The plan does not include live sessions"
    : refused(error, "application_not_found") ? "There is no such application"
      : refused(error, "application_forbidden") ? "This key is for other applications"
        : "The live sessions cannot be shown";
  return html`<${Empty} icon="alert" title=${title}>${explain(error)}<//>`;
}
