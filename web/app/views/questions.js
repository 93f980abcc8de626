// The question that is asked now.
import { html } from "../html.js";
import { close } from "../state/dialogs.js";
import { current } from "../state/applications.js";
import { Dialog } from "../ui/dialog.js";
import { Disconnect } from "./disconnect.js";
import { Guide } from "./firstrun.js";
import { Help } from "./help.js";
import { Matching } from "./matching.js";
import { Revoke } from "./revoke.js";

/** @param {{question: import("../state/dialogs.js").Question}} props */
export function Questions({ question }) {
  const app = current.value;
  if (question.kind === "help") return html`<${Help} onClose=${close} />`;
  if (!app) return null;
  switch (question.kind) {
    case "disconnect": return html`<${Disconnect} app=${app} target=${question.target} onClose=${close} />`;
    case "matching": return html`<${Matching} app=${app} onClose=${close} />`;
    case "revoke": return html`<${Revoke} app=${app} onClose=${close} />`;
    case "connect":
      return html`<${Dialog} class="ask wide" title="Connect a client" onClose=${close}><div class="body"><${Guide} app=${app} /></div><//>`;
  }
}
