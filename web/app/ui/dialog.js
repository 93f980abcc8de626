// A modal dialog: the browser keeps the focus in it, gives it back, and closes it with Escape.
import { html, useEffect, useId, useLayoutEffect, useRef, useState } from "../html.js";
import { explain } from "../state/api.js";
import { Button } from "./controls.js";

/** @typedef {import("../html.js").Children} Children */

/**
 * The focus goes to what says autofocus: a field of the children, or else the title.
 *
 * @param {{title: Children, onClose: () => void, children: Children, class?: string, field?: boolean}} props field: the children have one
 */
export function Dialog({ title, onClose, children, class: look = "ask", field = false }) {
  const ref = useRef(/** @type {HTMLDialogElement | null} */ (null));
  const id = useId();
  useLayoutEffect(() => {
    const dialog = /** @type {HTMLDialogElement} */ (ref.current);
    dialog.showModal();
    return () => dialog.close();
  }, []);
  const cancel = (/** @type {Event} */ event) => {
    event.preventDefault();
    onClose();
  };
  const onPointerDown = (/** @type {PointerEvent} */ event) => {
    if (event.target === ref.current) onClose(); // the backdrop
  };
  return html`
    <dialog ref=${ref} class=${look} aria-labelledby=${id} onCancel=${cancel} onPointerDown=${onPointerDown}>
      <div class="sheet">
        <header><h2 id=${id} tabindex="-1" autofocus=${!field}>${title}</h2><${Button} kind="quiet" icon="close" label="Close" onClick=${onClose} /></header>
        ${children}
      </div>
    </dialog>
  `;
}

/**
 * A dialog that asks before it does what cannot be undone.
 *
 * @param {{
 *   title: Children, confirm: string, ready?: boolean, field?: boolean, children: Children, onClose: () => void,
 *   act: () => Promise<void>,
 * }} props act rejects with what went wrong; when it is done the dialog closes
 */
export function Ask({ title, confirm, ready = true, field, children, onClose, act }) {
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState("");
  const there = useRef(true);
  useEffect(() => () => { there.current = false; }, []);
  const submit = async (/** @type {SubmitEvent} */ event) => {
    event.preventDefault();
    if (!ready || busy) return;
    setBusy(true);
    setProblem("");
    try {
      await act();
      onClose();
    } catch (error) {
      if (there.current) setProblem(explain(error));
    }
    if (there.current) setBusy(false);
  };
  return html`
    <${Dialog} title=${title} onClose=${onClose} field=${field}>
      <form onSubmit=${submit}>
        <div class="body">${children}${problem && html`<p class="problem" role="alert">${problem}</p>`}</div>
        <footer>
          <${Button} onClick=${onClose}>Cancel<//>
          <${Button} type="submit" kind="danger" busy=${busy} disabled=${!ready}>${confirm}<//>
        </footer>
      </form>
    <//>
  `;
}

/** The operator's words, which the client is told. @param {{value: string, onInput: (value: string) => void, autofocus?: boolean}} props */
export function Reason({ value, onInput, autofocus }) {
  const id = useId();
  return html`
    <div class="field">
      <label for=${id}>Reason <span class="hint">optional, shown to the client and kept</span></label>
      <input id=${id} type="text" maxlength="256" autofocus=${autofocus} autocomplete="off" value=${value}
        onInput=${(/** @type {any} */ event) => onInput(event.target.value)} />
    </div>
  `;
}

/** Where it must be typed what is about to happen. @param {{label: Children, value: string, onInput: (value: string) => void, number?: boolean}} props */
export function Confirm({ label, value, onInput, number }) {
  const id = useId();
  const input = useRef(/** @type {HTMLInputElement | null} */ (null));
  useLayoutEffect(() => input.current?.focus(), []); // where it comes only once the dialog is open
  return html`
    <div class="field">
      <label for=${id}>${label}</label>
      <input id=${id} ref=${input} type="text" inputmode=${number ? "numeric" : undefined} autocomplete="off" spellcheck="false" value=${value}
        autofocus data-confirm onInput=${(/** @type {any} */ event) => onInput(event.target.value)} />
    </div>
  `;
}
