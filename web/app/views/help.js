import { html } from "../html.js";
import { SHORTCUTS } from "../keyboard.js";
import { Dialog } from "../ui/dialog.js";

/** @param {{onClose: () => void}} props */
export const Help = ({ onClose }) => html`
  <${Dialog} title="Keyboard" onClose=${onClose}>
    <div class="body">
      <dl class="keys">
        ${SHORTCUTS.map(({ keys, does }) => html`
          <dt key=${does}>${keys.map(key => html`<kbd>${key}</kbd>`)}</dt><dd>${does}</dd>
        `)}
      </dl>
      <p class="quiet">The API is described in <a href="/openapi.yaml">openapi.yaml</a> and <a href="/asyncapi.yaml">asyncapi.yaml</a>.</p>
    </div>
  <//>
`;
