// Ending all sessions of an application, and refusing every token from before.
import { html, useState } from "../html.js";
import { acted, acts } from "../state/api.js";
import { view } from "../state/live.js";
import { tell } from "../state/toasts.js";
import { plural } from "../text/format.js";
import { plain, Text } from "../ui/text.js";
import { Ask, Confirm, Reason } from "../ui/dialog.js";

/** @param {{app: import("../state/applications.js").Known, onClose: () => void}} props */
export function Revoke({ app, onClose }) {
  const [typed, setTyped] = useState("");
  const [reason, setReason] = useState("");
  const act = async () => {
    const [ended, partly] = await acted(acts.revokeAll(app.id, { reason: reason.trim() || undefined }));
    tell(`Revoked: ${plural(ended, "session")} ended.${partly}`);
  };
  const total = view.value?.total ?? 0;
  return html`
    <${Ask} title="Revoke all sessions?" confirm="Revoke all" field ready=${typed.trim() === app.name.trim()} onClose=${onClose} act=${act}>
      <p>All sessions of <strong><${Text} value=${app.name} /></strong>, now <strong>${plural(total, "session")}</strong>, are told and cut off, and
        <strong> every token issued until now is refused</strong>. Everybody must authenticate again. This cannot be undone.</p>
      <${Confirm} label=${html`Type the application's name, <b>${plain(app.name)}</b>, to confirm`} value=${typed} onInput=${setTyped} />
      <${Reason} value=${reason} onInput=${setReason} />
    <//>
  `;
}
