// The page: who is not signed in is asked to; everybody else gets the view of the address.
import { html, useEffect } from "../html.js";
import { account, notice, whoIsThere } from "../state/account.js";
import { applications, current, missing, problem, readApplications } from "../state/applications.js";
import { dialog } from "../state/dialogs.js";
import { fresh, go, route, view } from "../state/route.js";
import { Button, Empty, Loading } from "../ui/controls.js";
import { Audit } from "./audit.js";
import { Banner } from "./banner.js";
import { Drawer } from "./drawer.js";
import { Ended } from "./ended.js";
import { Live } from "./live.js";
import { Elsewhere } from "./picker.js";
import { Questions } from "./questions.js";
import { SignIn } from "./signin.js";
import { Toasts } from "./toasts.js";
import { TopBar } from "./topbar.js";

export function App() {
  useTitle();
  if (account.value === undefined) return html`<${Starting} />`;
  if (account.value === null) return html`<${SignIn} />`;
  return html`
    <a class="skip" href="#main">Skip to the content</a>
    <${TopBar} />
    <${Banner} />
    <main id="main" tabindex="-1"><${Content} /></main>
    ${route.value.session && current.value && view.value !== "audit" && html`<${Drawer} key=${route.value.session} id=${route.value.session} />`}
    ${dialog.value && html`<${Questions} question=${dialog.value} />`}
    <${Toasts} />
  `;
}

const VIEWS = { live: Live, ended: Ended, audit: Audit };

function Content() {
  if (view.value === "audit") return html`<${Audit} />`;
  if (problem.value) {
    return html`<${Empty} page icon="alert" title="The applications could not be read"
      action=${html`<${Button} onClick=${readApplications}>Try again<//>`}>${problem.value}<//>`;
  }
  if (!applications.value) return html`<${Loading} />`;
  const app = current.value;
  if (missing.value) {
    return html`<${Empty} page icon="search" title="There is no such application"
      action=${html`<${Button} onClick=${() => go(fresh(view.value, ""))}>To the first one<//>`}>Or this key does not see it.<//>`;
  }
  if (!app) return html`<${Elsewhere} />`;
  return html`<${VIEWS[view.value]} key=${app.ref} app=${app} />`;
}

/** Before it is known who is there. */
function Starting() {
  if (!notice.value) return html`<main class="starting"><${Loading} label="Opening" /></main>`;
  return html`<main class="starting">
    <${Empty} page icon="offline" title="The server cannot be reached" action=${html`<${Button} kind="primary" onClick=${whoIsThere}>Try again<//>`}>
      ${notice.value}
    <//>
  </main>`;
}

function useTitle() {
  const name = account.value && view.value !== "audit" && current.value?.name;
  const what = { live: "Live sessions", ended: "Ended sessions", audit: "Audit" }[view.value];
  const title = account.value ? [what, name, "Rollcall"].filter(Boolean).join(" · ") : "Rollcall";
  useEffect(() => { document.title = title; }, [title]);
}
