// The bar that is always there: which application, which view, and who is signed in.
import { html } from "../html.js";
import { account, may, signOut } from "../state/account.js";
import { open } from "../state/dialogs.js";
import { address, fresh, view } from "../state/route.js";
import { tell } from "../state/toasts.js";
import { explain } from "../state/api.js";
import { Button, Menu } from "../ui/controls.js";
import { Icon, Mark } from "../ui/icons.js";
import { Text } from "../ui/text.js";
import { Ago } from "../ui/time.js";
import { Picker } from "./picker.js";

/** @type {{view: import("../state/route.js").Route["view"], name: string, icon: string}[]} */
const TABS = [
  { view: "live", name: "Live", icon: "live" },
  { view: "ended", name: "Ended", icon: "clock" },
  { view: "audit", name: "Audit", icon: "list" },
];

export function TopBar() {
  return html`
    <header class="top">
      <div class="top-inner">
        <a class="brand" href=${address(fresh("live"))} aria-label="Rollcall: live sessions"><${Mark} /><span>Rollcall</span></a>
        <${Picker} />
        <nav aria-label="Views">
          ${TABS.map(tab => html`
            <a key=${tab.view} href=${address(fresh(tab.view))} aria-current=${view.value === tab.view ? "page" : undefined}>
              <${Icon} name=${tab.icon} /><span>${tab.name}</span>
            </a>
          `)}
        </nav>
        <div class="top-end">
          <${Button} kind="quiet" icon="help" label="Keyboard shortcuts" onClick=${() => open({ kind: "help" })} />
          <${Who} />
        </div>
      </div>
    </header>
  `;
}

function Who() {
  const me = /** @type {import("../state/account.js").SignIn} */ (account.value);
  const leave = () => signOut().catch(error => tell(explain(error), "bad"));
  return html`
    <${Menu} end class="who" label=${`Signed in with the key ${me.key.name}`}
      button=${html`<span class="avatar" aria-hidden="true">${initial(me.organization.name)}</span>`}>
      ${() => html`
        <div class="about">
          <strong><${Text} value=${me.organization.name} /></strong>
          <dl>
            <dt>Key</dt><dd><${Text} value=${me.key.name} /> <span class="mono quiet">…${me.key.lastFour}</span></dd>
            <dt>May</dt><dd>${me.key.scopes.length ? me.key.scopes.join(", ") : "nothing"}</dd>
            ${me.expiresAt && html`<dt>Until</dt><dd><${Ago} at=${me.expiresAt} /></dd>`}
          </dl>
          ${!may("sessions:read") && html`<p class="note warn">This key cannot read sessions.</p>`}
          <${Button} icon="out" class="wide" onClick=${leave}>Sign out<//>
        </div>
      `}
    <//>
  `;
}

/** @param {string} name */
const initial = name => ([...name.trim()][0] ?? "?").toUpperCase();
