// Which application is looked at.
import { html, useId, useState } from "../html.js";
import { applications, current, readApplications } from "../state/applications.js";
import { address, fresh, go, view } from "../state/route.js";
import { manage, asked, explain } from "../state/api.js";
import { count } from "../text/format.js";
import { Badge, Button, Empty, Menu } from "../ui/controls.js";
import { Icon } from "../ui/icons.js";
import { Text, plain } from "../ui/text.js";

/** From how many on there is a filter. */
const MANY = 8;

export function Picker() {
  const app = current.value, none = "Choose an application";
  return html`
    <${Menu} class="picker" label=${app ? `Application: ${plain(app.name)}` : none} onOpen=${readApplications}
      button=${html`<span class="picked"><${Text} value=${app?.name} none=${none} /></span>`}>
      ${(/** @type {() => void} */ close) => html`<${Choices} close=${close} />`}
    <//>
  `;
}

/** @param {{close: () => void}} props */
function Choices({ close }) {
  const [filter, setFilter] = useState("");
  const all = applications.value ?? [];
  const wanted = filter.toLowerCase();
  const shown = all.filter(app => app.name.toLowerCase().includes(wanted) || app.number.includes(wanted) || app.id.startsWith(wanted));
  const to = view.value === "audit" ? "live" : view.value;
  return html`
    ${all.length > MANY && html`<input type="search" class="filter" aria-label="Filter applications" placeholder="Filter" value=${filter}
      onInput=${(/** @type {any} */ event) => setFilter(event.target.value)} />`}
    <ul class="choices">
      ${shown.map(app => html`
        <li key=${app.ref}>
          <a href=${address(fresh(to, app.ref))} aria-current=${current.value?.ref === app.ref ? "true" : undefined} onClick=${close}>
            <span class="choice-name"><${Text} value=${app.name} /></span>
            ${app.state !== "active" && html`<${Badge} tone=${app.state === "paused" ? "warn" : "quiet"}>${app.state}<//>`}
            <span class="choice-count" title="Live sessions">${count(app.live)}</span>
            ${current.value?.ref === app.ref && html`<${Icon} name="check" />`}
          </a>
        </li>
      `)}
      ${shown.length === 0 && html`<li class="quiet nothing">No application${filter && ` matches “${filter}”`}</li>`}
    </ul>
  `;
}

/** For a key that sees no list of applications, or an organization that has none. */
export function Elsewhere() {
  const id = useId();
  const [problem, setProblem] = useState("");
  const [busy, setBusy] = useState(false);
  const submit = async (/** @type {SubmitEvent} */ event) => {
    event.preventDefault();
    const field = /** @type {HTMLInputElement} */ (/** @type {HTMLFormElement} */ (event.target).elements.namedItem("application"));
    setBusy(true);
    setProblem("");
    try {
      const { applicationId } = await asked(manage.live({ application: field.value.trim(), pageSize: 10 }));
      go({ application: applicationId || field.value.trim() });
    } catch (error) {
      setProblem(explain(error));
      setBusy(false);
    }
  };
  return html`
    <${Empty} page icon="key" title="Which application?">
      This key sees no list of applications. Give the number or the id of one.
      <form class="inline" onSubmit=${submit}>
        <label class="offscreen" for=${id}>Number or id</label>
        <input id=${id} name="application" class="mono" placeholder="123456789" autocomplete="off" />
        <${Button} type="submit" kind="primary" busy=${busy}>Open<//>
      </form>
      ${problem && html`<span class="problem" role="alert">${problem}</span>`}
    <//>
  `;
}
