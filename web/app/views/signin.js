// Signing in: the key goes to the server once, and stays nowhere on the page.
import { html, useEffect, useId, useRef, useState } from "../html.js";
import { notice, signIn } from "../state/account.js";
import { explain } from "../state/api.js";
import { Button } from "../ui/controls.js";
import { Mark } from "../ui/icons.js";

export function SignIn() {
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState("");
  const input = useRef(/** @type {HTMLInputElement | null} */ (null));
  const id = useId();
  useEffect(() => input.current?.focus(), []);

  const submit = async (/** @type {SubmitEvent} */ event) => {
    event.preventDefault();
    const field = /** @type {HTMLInputElement} */ (input.current);
    const key = field.value.trim();
    if (!key) return setProblem("Paste an API key.");
    setBusy(true);
    setProblem("");
    try {
      await signIn(key);
      field.value = "";
    } catch (error) {
      setProblem(explain(error));
      setBusy(false);
      field.select();
    }
  };

  return html`
    <main class="sign-in">
      <form class="card" onSubmit=${submit}>
        <div class="brand"><${Mark} /><h1>Rollcall</h1></div>
        <p class="lead">Who is connected, what just changed, and how to cut someone off.</p>
        ${notice.value && html`<p class="note warn" role="status">${notice.value}</p>`}
        <div class="field">
          <label for=${id}>API key</label>
          <input id=${id} ref=${input} class="mono" type="password" name="key" placeholder="rck_…" autocomplete="current-password" spellcheck="false"
            aria-invalid=${problem ? "true" : undefined} aria-describedby=${problem ? id + "-problem" : id + "-hint"} />
          ${problem
            ? html`<p class="problem" id=${id + "-problem"} role="alert">${problem}</p>`
            : html`<p class="hint" id=${id + "-hint"}>You can do and see what the key may. It is not kept in this browser.</p>`}
        </div>
        <${Button} type="submit" kind="primary" busy=${busy} class="wide">Sign in<//>
      </form>
      <p class="foot">Keys are made with <code>rollcall admin keys create</code>.</p>
    </main>
  `;
}
