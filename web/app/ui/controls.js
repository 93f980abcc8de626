// Buttons and their kin.
import { html, useEffect, useId, useRef, useState } from "../html.js";
import { Icon } from "./icons.js";

/** @typedef {import("../html.js").Children} Children */

/**
 * @param {{
 *   children?: Children, label?: string, icon?: string, kind?: "primary" | "danger" | "plain" | "quiet", small?: boolean, busy?: boolean,
 *   disabled?: boolean, type?: "button" | "submit", onClick?: (event: MouseEvent) => void, class?: string, pressed?: boolean,
 *   expanded?: boolean, controls?: string, title?: string,
 * }} props
 */
export function Button({ children, label, icon, kind = "plain", small, busy, disabled, type = "button", onClick, title, ...rest }) {
  const look = ["button", kind, small && "small", !children && "square", rest.class].filter(Boolean).join(" ");
  return html`
    <button type=${type} class=${look} disabled=${disabled || busy} aria-label=${label} aria-busy=${busy || undefined} title=${title ?? label}
      aria-pressed=${rest.pressed} aria-expanded=${rest.expanded} aria-controls=${rest.controls} onClick=${onClick}>
      ${busy ? html`<span class="spinner" aria-hidden="true"></span>` : icon && html`<${Icon} name=${icon} />`}
      ${children && html`<span>${children}</span>`}
    </button>
  `;
}

/** Copies a text, and says that it did. @param {{value: string, label: string, children?: Children}} props */
export function Copy({ value, label, children }) {
  const [done, setDone] = useState(false);
  const timer = useRef(/** @type {ReturnType<typeof setTimeout> | undefined} */ (undefined));
  useEffect(() => () => clearTimeout(timer.current), []);
  const copy = async () => {
    await toClipboard(value);
    setDone(true);
    clearTimeout(timer.current);
    timer.current = setTimeout(() => setDone(false), 1600);
  };
  return html`
    <${Button} kind="quiet" small icon=${done ? "check" : "copy"} label=${done ? "Copied" : label} class=${done ? "done" : ""} onClick=${copy}>
      ${children && (done ? "Copied" : children)}
    <//>
  `;
}

/** @param {string} text */
async function toClipboard(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text).catch(() => byHand(text));
  byHand(text); // over plain HTTP, browsers have no clipboard
}

/** @param {string} text */
function byHand(text) {
  const area = document.createElement("textarea");
  area.value = text;
  area.className = "offscreen";
  const parent = document.querySelector("dialog[open]:last-of-type") ?? document.body;
  const focused = document.activeElement;
  parent.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
  if (focused instanceof HTMLElement) focused.focus();
}

/**
 * A button that opens a panel below it, which closes with Escape and with a click elsewhere.
 *
 * @param {{button: Children, label: string, children: (close: () => void) => Children, class?: string, end?: boolean, onOpen?: () => void}} props
 */
export function Menu({ button, label, children, class: extra = "", end = false, onOpen }) {
  const [open, setOpen] = useState(false);
  const root = useRef(/** @type {HTMLElement | null} */ (null));
  const id = useId();
  useEffect(() => {
    if (!open) return;
    onOpen?.();
    const outside = (/** @type {Event} */ event) => root.current?.contains(/** @type {Node} */ (event.target)) || setOpen(false);
    addEventListener("pointerdown", outside);
    addEventListener("focusin", outside);
    return () => {
      removeEventListener("pointerdown", outside);
      removeEventListener("focusin", outside);
    };
  }, [open]);
  const close = () => {
    setOpen(false);
    root.current?.querySelector("button")?.focus();
  };
  const onKeyDown = (/** @type {KeyboardEvent} */ event) => {
    if (event.key === "Escape" && open) {
      event.stopPropagation();
      close();
    }
    if ((event.key === "ArrowDown" || event.key === "ArrowUp") && root.current) {
      event.preventDefault();
      event.stopPropagation();
      setOpen(true);
      step(root.current, event.key === "ArrowDown" ? 1 : -1);
    }
  };
  return html`
    <div class="menu ${extra}" ref=${root} onKeyDown=${onKeyDown}>
      <button type="button" class="menu-button" aria-expanded=${open} aria-controls=${id} aria-label=${label} onClick=${() => setOpen(!open)}>
        ${button}<${Icon} name="down" />
      </button>
      ${open && html`<div id=${id} class="panel ${end ? "end" : ""}">${children(close)}</div>`}
    </div>
  `;
}

/** Moves the focus among what a panel offers. @param {HTMLElement} root @param {number} by */
function step(root, by) {
  const items = /** @type {HTMLElement[]} */ ([...root.querySelectorAll(".panel a, .panel button, .panel input")]);
  const at = items.indexOf(/** @type {HTMLElement} */ (document.activeElement));
  items[(at + by + items.length) % items.length]?.focus();
}

/** @param {{title: string, children?: Children, icon?: string, action?: Children, page?: boolean}} props page: it is all that the page has */
export const Empty = ({ title, children, icon, action, page = false }) => html`
  <div class="empty">
    ${icon && html`<span class="empty-icon"><${Icon} name=${icon} /></span>`}
    <${page ? "h1" : "h2"}>${title}<//>
    ${children && html`<p>${children}</p>`}
    ${action && html`<div class="actions">${action}</div>`}
  </div>
`;

/** @param {{label?: string}} props */
export const Loading = ({ label = "Loading" }) => html`
  <div class="loading" role="status"><span class="spinner" aria-hidden="true"></span><span>${label}…</span></div>
`;

/** @param {{tone: string, children: Children}} props */
export const Badge = ({ tone, children }) => html`<span class="badge ${tone}">${children}</span>`;
