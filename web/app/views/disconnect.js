// Ending one session.
import { html, useState } from "../html.js";
import { acted, acts } from "../state/api.js";
import { tell } from "../state/toasts.js";
import { Ask, Reason } from "../ui/dialog.js";

/** @param {{app: import("../state/applications.js").Known, target: import("../state/dialogs.js").Target, onClose: () => void}} props */
export function Disconnect({ app, target, onClose }) {
  const [reason, setReason] = useState("");
  const act = async () => {
    const [ended, partly] = await acted(acts.disconnect(app.id, target.id, { reason: reason.trim() || undefined }));
    tell(html`${ended ? html`Disconnected <bdi>${target.who}</bdi>.` : html`<bdi>${target.who}</bdi> had already ended.`}${partly}`);
  };
  return html`
    <${Ask} title="Disconnect this session?" confirm="Disconnect" field onClose=${onClose} act=${act}>
      <p><strong><bdi>${target.who}</bdi></strong> is told, cut off, and its token is refused from now on. This cannot be undone.</p>
      <${Reason} value=${reason} onInput=${setReason} autofocus />
    <//>
  `;
}
