// Ending all sessions that match the search: the server says how many that is, and ends no others than those.
import { html, useEffect, useState } from "../html.js";
import { acted, acts, asked, explain, manage } from "../state/api.js";
import { route } from "../state/route.js";
import { tell } from "../state/toasts.js";
import { count, plural } from "../text/format.js";
import { columns } from "../text/names.js";
import { Button, Loading } from "../ui/controls.js";
import { Ask, Confirm, Reason } from "../ui/dialog.js";
import { Text } from "../ui/text.js";

/** @param {{app: import("../state/applications.js").Known, onClose: () => void}} props */
export function Matching({ app, onClose }) {
  // What was on the screen when it was asked: the address cannot change under an open dialog.
  const [{ search, categories }] = useState(() => route.peek());
  const [preview, setPreview] = useState(/** @type {{count: number, createdBefore: string} | null} */ (null));
  const [problem, setProblem] = useState("");
  const [typed, setTyped] = useState("");
  const [reason, setReason] = useState("");

  const look = async () => {
    setPreview(null);
    setProblem("");
    setTyped("");
    try {
      setPreview(await asked(manage.previewDisconnect(app.id, { search, categories })));
    } catch (error) {
      setProblem(explain(error));
    }
  };
  useEffect(() => { void look(); }, []);

  const exact = typed.replace(/[\s.,'’\u00a0\u202f]/g, "");
  const ready = preview !== null && preview.count > 0 && exact === String(preview.count);
  const act = async () => {
    if (!preview) return;
    const [ended, partly] = await acted(acts.disconnectMatching(app.id, {
      search, categories, createdBefore: preview.createdBefore, reason: reason.trim() || undefined,
    }));
    tell(`Disconnected ${plural(ended, "session")}.${partly}`);
  };
  const where = columns(categories, "and");
  return html`
    <${Ask} title="Disconnect all that match?" confirm=${preview?.count ? `Disconnect ${count(preview.count)}` : "Disconnect"} ready=${ready}
      onClose=${onClose} act=${act}>
      <dl class="facts"><dt>Search</dt><dd><${Text} value=${search} none="everything" mono /></dd><dt>In</dt><dd><span>${where}</span></dd></dl>
      ${problem && html`<p class="problem" role="alert">${problem}</p>`}
      ${!preview && !problem && html`<${Loading} label="Counting" />`}
      ${preview && preview.count === 0 && html`<p>No session matches any more. <${Button} small onClick=${look}>Count again<//></p>`}
      ${preview && preview.count > 0 && html`
        <p><strong data-preview=${preview.count}>${plural(preview.count, "session")}</strong> ${preview.count === 1 ? "matches" : "match"} now, on every page.
          Those that still match when you confirm are told and cut off; those that connect meanwhile are left alone. This cannot be undone.</p>
        <${Confirm} number label=${html`Type <b class="mono">${preview.count}</b> to confirm`} value=${typed} onInput=${setTyped} />
        <${Reason} value=${reason} onInput=${setReason} />
      `}
    <//>
  `;
}
