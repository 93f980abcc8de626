// How to connect the first session. It turns into the table when that arrives: the live view watches for it all along.
import { html, useEffect, useId, useState } from "../html.js";
import { may } from "../state/account.js";
import { asked, explain, manage } from "../state/api.js";
import { snippets } from "../text/snippets.js";
import { Button, Copy } from "../ui/controls.js";
import { Text } from "../ui/text.js";

/** @typedef {import("../state/applications.js").Known} Known */

const HOUR = 3600;

/** @param {{app: Known}} props */
export const FirstRun = ({ app }) => html`
  <section class="card first-run" aria-label="Connect the first session">
    <h2>Connect the first session</h2>
    <p class="lead">Nobody has connected to <strong><${Text} value=${app.name} /></strong> yet. Run one of these, and it appears here.</p>
    <${Guide} app=${app} />
    <p class="listening" role="status"><span class="pulse on"><span class="dot"></span></span>Waiting for the first session…</p>
  </section>
`;

/** A token, and code that uses it. @param {{app: Known}} props */
export function Guide({ app }) {
  const [token, setToken] = useState("");
  const [problem, setProblem] = useState("");
  const [busy, setBusy] = useState(false);
  const issue = async () => {
    setBusy(true);
    setProblem("");
    try {
      setToken((await asked(manage.issueToken(app.id, { login: "you@example.com", license: "FIRST-000001", expiresIn: HOUR }))).token);
    } catch (error) {
      setProblem(explain(error));
    }
    setBusy(false);
  };
  const can = may("sessions:create") && app.id !== "";
  useEffect(() => { if (can) void issue(); }, [app.id]);
  return html`
    <ol class="guide">
      <li>
        <h3>A session token</h3>
        ${can ? html`
          <p>Your backend issues one for each client. This one is for trying, and good for an hour.</p>
          <div class="token">
            <code class="mono" data-token>${token || (problem ? "" : "…")}</code>
            ${token && html`<${Copy} value=${token} label="Copy the token">Copy<//>`}
            <${Button} small busy=${busy} onClick=${issue}>Another<//>
          </div>
          ${problem && html`<p class="problem" role="alert">${problem}</p>`}
        ` : html`<p class="note">This key cannot issue tokens (<code>sessions:create</code>)${app.publishableKey
          ? ": the code below uses the application's publishable key, which opens an unauthorized session." : "."}</p>`}
      </li>
      <li><h3>Code that holds the session</h3><${Code} app=${app} token=${token} /></li>
    </ol>
  `;
}

/** @param {{app: Known, token: string}} props */
function Code({ app, token }) {
  const [at, setAt] = useState(0);
  const id = useId();
  const facts = { url: location.origin, application: app.number || app.id, token, publishableKey: app.publishableKey };
  const code = snippets[at].code(facts);
  const step = (/** @type {KeyboardEvent} */ event) => {
    const by = event.key === "ArrowRight" ? 1 : event.key === "ArrowLeft" ? -1 : 0;
    if (!by) return;
    const next = (at + by + snippets.length) % snippets.length;
    setAt(next);
    /** @type {HTMLElement | undefined} */ (/** @type {HTMLElement} */ (event.currentTarget).children[next])?.focus();
  };
  return html`
    <div class="code">
      <div class="code-head">
        <div class="tabs" role="tablist" aria-label="Language" onKeyDown=${step}>
          ${snippets.map(({ name }, i) => html`
            <button key=${name} type="button" role="tab" id=${`${id}-${i}`} aria-selected=${i === at} aria-controls=${id} tabindex=${i === at ? 0 : -1}
              onClick=${() => setAt(i)}>${name}</button>
          `)}
        </div>
        <${Copy} value=${code} label=${`Copy the ${snippets[at].name} code`}>Copy<//>
      </div>
      <pre id=${id} role="tabpanel" aria-labelledby=${`${id}-${at}`} tabindex="0"><code>${code}</code></pre>
    </div>
  `;
}
