// One session: everything that is known of it.
import { html, useEffect, useSignal } from "../html.js";
import { canDisconnect } from "../state/account.js";
import { asked, explain, manage, refused } from "../state/api.js";
import { current } from "../state/applications.js";
import { now } from "../state/clock.js";
import { open } from "../state/dialogs.js";
import { view } from "../state/live.js";
import { go } from "../state/route.js";
import { callIt, statusOf } from "../text/status.js";
import { Badge, Button, Copy, Empty, Loading } from "../ui/controls.js";
import { Dialog } from "../ui/dialog.js";
import { plain, Text } from "../ui/text.js";
import { Facts, History } from "./details.js";
import { Tree } from "./tree.js";

/** @typedef {import("../client.js").SessionInfo} SessionInfo */

const EVERY = 5000;
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

/** @param {{id: string}} props */
export function Drawer({ id }) {
  const session = useSignal(/** @type {SessionInfo | null} */ (null));
  const problem = useSignal(/** @type {unknown} */ (null));
  const app = current.value?.id ?? "";
  const isLive = view.value?.items.some(row => row.serverId.endsWith(":" + id)) ?? false;

  // It is asked for again while it lives, and at once when its row changes, comes or goes.
  useEffect(() => {
    if (!UUID.test(id) || !app) {
      problem.value = new Error("there is no such session");
      return;
    }
    const stop = new AbortController();
    let timer = /** @type {ReturnType<typeof setTimeout> | undefined} */ (undefined);
    const read = async () => {
      try {
        session.value = await asked(manage.session(app, id, { details: true, signal: stop.signal }));
        problem.value = null;
      } catch (error) {
        if (stop.signal.aborted) return;
        problem.value = error;
      }
      if (!stop.signal.aborted && session.peek()?.status !== "disconnected") timer = setTimeout(read, EVERY);
    };
    void read();
    return () => {
      stop.abort();
      clearTimeout(timer);
    };
  }, [id, app, isLive]);

  const close = () => go({ session: "" });
  const known = session.value;
  const who = known?.details ? callIt(known.details) : known?.name;
  return html`
    <${Dialog} class="drawer" onClose=${close} title=${html`<${Text} value=${who} none="Session" />`}>
      ${known ? html`<${Known} session=${known} who=${plain(who ?? "")} />`
        : problem.value ? html`<${Empty} icon="search" title=${refused(problem.value, "session_not_found") ? "This session is not known" : "The session could not be read"}>
            ${refused(problem.value, "session_not_found") ? "It ended longer ago than records are kept, or it never was." : explain(problem.value)}<//>`
          : html`<${Loading} />`}
      ${known && problem.value && html`<p class="note warn">${explain(problem.value)}</p>`}
    <//>
  `;
}

/** @param {{session: SessionInfo, who: string}} props */
function Known({ session, who }) {
  const { word, reason, tone } = statusOf(session, now.value);
  return html`
    <div class="body">
      <p class="status"><${Badge} tone=${tone}>${word}<//><span>${reason}</span></p>
      <${Facts} session=${session} />
      <section>
        <h3>What the client says of itself</h3>
        ${session.clientInfo ? html`<${Tree} value=${session.clientInfo} />` : html`<p class="quiet">Nothing.</p>`}
      </section>
      <section><h3>History</h3><${History} session=${session} /></section>
    </div>
    <footer>
      <${Copy} value=${JSON.stringify(session, null, 2)} label="Copy as JSON">Copy as JSON<//>
      ${canDisconnect.value && session.status === "active" && html`
        <${Button} kind="danger" icon="cut" onClick=${() => open({ kind: "disconnect", target: { id: session.id, who } })}>Disconnect…<//>
      `}
    </footer>
  `;
}
