// One live session in the table.
import { sessionIdOf } from "../client.js";
import { html, useComputed, useLayoutEffect, useRef, useSignal } from "../html.js";
import { canDisconnect } from "../state/account.js";
import { open } from "../state/dialogs.js";
import { address, route } from "../state/route.js";
import { callIt } from "../text/status.js";
import { Button } from "../ui/controls.js";
import { plain, Text } from "../ui/text.js";
import { Ago } from "../ui/time.js";
import { flash } from "./motion.js";

/** @typedef {import("../client.js").Row} LiveRow */

/** Another row than before is another session in its place. @param {{row: LiveRow, gone: boolean}} props */
export function Row({ row, gone }) {
  const element = useRef(/** @type {HTMLElement | null} */ (null));
  const before = useRef(row);
  const id = sessionIdOf(row.serverId);
  const session = useSignal(id);
  session.value = id;
  const who = plain(callIt(row));
  const href = useComputed(() => address({ ...route.value, session: session.value }));
  const isSelected = useComputed(() => route.value.session === session.value);
  useLayoutEffect(() => {
    if (element.current) flash(element.current, before.current, row);
    before.current = row;
  }, [row]);
  return html`
    <div class="tr ${gone ? "gone" : ""} ${isSelected.value ? "selected" : ""}" role="row" ref=${element}
      data-id=${row.serverId} data-session=${id} data-who=${who}>
      <div role="cell" class="login"><a class="row-link" href=${href}
        aria-label=${gone ? `${who}, no longer connected` : row.login ? undefined : `${who}, no login`}><${Text} value=${row.login} none="no login" /></a></div>
      <div role="cell" class="license mono"><${Text} value=${row.license} /></div>
      <div role="cell" class="client mono"><${Text} value=${row.clientId} /></div>
      <div role="cell" class="ip mono"><${Text} value=${row.ipAddress} /></div>
      <div role="cell" class="node"><${Text} value=${row.serverId.slice(0, row.serverId.lastIndexOf(":"))} /></div>
      <div role="cell" class="when">${gone ? html`<span>left</span>` : html`<${Ago} at=${row.createdAt} />`}</div>
      <div role="cell" class="act">
        ${canDisconnect.value && html`<${Button} kind="danger" small icon="cut" disabled=${gone} label=${`Disconnect ${who}`} title="Disconnect"
          onClick=${() => open({ kind: "disconnect", target: { id, who } })} />`}
      </div>
    </div>
  `;
}
