// The facts of a session, and what became of it.
import { html } from "../html.js";
import { account } from "../state/account.js";
import { now } from "../state/clock.js";
import { duration, moment } from "../text/format.js";
import { endName } from "../text/names.js";
import { Badge, Copy } from "../ui/controls.js";
import { Text } from "../ui/text.js";
import { Ago } from "../ui/time.js";

/** @typedef {import("../client.js").SessionInfo} SessionInfo */

/** @param {{session: SessionInfo}} props */
export function Facts({ session }) {
  const { details } = session;
  return html`
    <dl class="facts">
      <${Fact} name="Name" value=${session.name} />
      <${Fact} name="Login" value=${details?.login} />
      <${Fact} name="License" value=${details?.license} mono />
      <${Fact} name="Client ID" value=${details?.clientId} mono />
      <${Fact} name="IP address" value=${details?.ipAddress} mono />
      <${Fact} name="Hostname" value=${session.hostname} />
      <${Fact} name="User agent" value=${session.userAgent} />
      <dt>Authorized</dt><dd>${details?.authorized ? html`<${Badge} tone="good">yes<//>` : html`<${Badge} tone="warn">no<//> <span>by the publishable key alone</span>`}</dd>
      <${Fact} name="Server ID" value=${details?.serverId} mono />
      <${Fact} name="Session ID" value=${session.id} mono />
    </dl>
  `;
}

/** @param {{name: string, value: string | null | undefined, mono?: boolean}} props */
const Fact = ({ name, value, mono }) => html`
  <dt>${name}</dt>
  <dd><${Text} value=${value} mono=${mono} />${value && html`<${Copy} value=${value} label=${`Copy: ${name}`} />`}</dd>
`;

/** @typedef {{at: string, what: import("../html.js").Children, tone?: string}} Moment */

/** @param {{session: SessionInfo}} props */
export function History({ session }) {
  return html`
    <ol class="history">
      ${moments(session).map(({ at, what, tone = "" }) => html`
        <li key=${at + String(tone)} class=${tone}><div>${what}</div><div class="quiet"><${Ago} at=${at} /> · ${moment(at)}</div></li>
      `)}
    </ol>
  `;
}

/** Newest first. @param {SessionInfo} session */
function moments(session) {
  const { connectedAt, createdAt, lastActiveAt, tokenExpiresAt, disconnectedAt, details } = session;
  /** @type {Moment[]} */
  const all = [{ at: connectedAt ?? createdAt, what: details?.authorized ? "Connected, authorized" : "Connected" }];
  if (lastActiveAt && lastActiveAt !== (connectedAt ?? createdAt)) all.push({ at: lastActiveAt, what: "Last active" });
  if (tokenExpiresAt && (!disconnectedAt || tokenExpiresAt < disconnectedAt)) {
    const past = Date.parse(tokenExpiresAt) <= now.value;
    all.push({ at: tokenExpiresAt, what: past ? "Token expired" : "Token expires", tone: past ? "warn" : "ahead" });
  }
  if (disconnectedAt) all.push({ at: disconnectedAt, what: html`<${End} session=${session} />`, tone: "end" });
  return all.sort((a, b) => Date.parse(b.at) - Date.parse(a.at));
}

/** @param {{session: SessionInfo}} props */
function End({ session }) {
  const { details, connectedAt, createdAt, disconnectedAt = createdAt } = session;
  const lasted = Date.parse(disconnectedAt) - Date.parse(connectedAt ?? createdAt);
  return html`
    ${endName(details?.endReason)}${details?.endedBy && html` by <${By} who=${details.endedBy} />`} after ${duration(lasted)}
    ${details?.reason && html`<blockquote><${Text} value=${details.reason} /></blockquote>`}
  `;
}

/** Who ended it: a key, by its public id. @param {{who: string}} props */
export function By({ who }) {
  if (who === account.value?.key.publicId) return html`<span title=${who}>this key (<${Text} value=${account.value.key.name} />)</span>`;
  return who === "admin" ? html`<span>the admin</span>` : html`<span>key <bdi class="mono">${who}</bdi></span>`;
}
