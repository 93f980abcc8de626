// What is wrong with what the page shows, if anything: the stream is down, or not every server is seen.
import { html, useComputed } from "../html.js";
import { now } from "../state/clock.js";
import { connection, partial, refusal, retry, view as shown } from "../state/live.js";
import { view } from "../state/route.js";
import { Button } from "../ui/controls.js";
import { Icon } from "../ui/icons.js";

export function Banner() {
  const text = useComputed(() => {
    if (view.value !== "live" || refusal.value) return "";
    const { state, retryAt } = connection.value;
    if (state === "waiting") {
      const s = Math.ceil((retryAt - now.value) / 1000);
      return s > 0 ? `Reconnecting in ${s} s.` : "Reconnecting…";
    }
    return state === "connecting" && shown.value ? "Reconnecting…" : "";
  });
  const down = useComputed(() => text.value !== "");
  return html`
    <div class="banners" role="status">
      ${down.value && html`
        <div class="banner bad">
          <${Icon} name="offline" />
          <p><strong>Not live.</strong> <span>${shown.value ? "The connection was lost: this is what was true last." : "There is no connection to the server."}</span>
            ${" "}<span aria-live="off" class="tabular">${text}</span></p>
          <${Button} small onClick=${retry}>Retry now<//>
        </div>
      `}
      ${!down.value && view.value === "live" && partial.value && html`
        <div class="banner warn"><${Icon} name="alert" /><p><strong>Partial.</strong> Not every server can be seen: its sessions are missing here.</p></div>
      `}
    </div>
  `;
}
