import { html } from "../html.js";
import { dismiss, toasts } from "../state/toasts.js";
import { Button } from "../ui/controls.js";
import { Icon } from "../ui/icons.js";

export const Toasts = () => html`
  <div class="toasts" role="status" aria-live="polite">
    ${toasts.value.map(toast => html`
      <div key=${toast.id} class="toast ${toast.tone}">
        <${Icon} name=${toast.tone === "good" ? "check" : "alert"} /><p>${toast.text}</p>
        <${Button} kind="quiet" small icon="close" label="Dismiss" onClick=${() => dismiss(toast.id)} />
      </div>
    `)}
  </div>
`;
