// What the lists of the past are narrowed by: a span of time, and kinds of entries. The address holds it.
import { html, useId } from "../html.js";
import { go, route } from "../state/route.js";
import { RANGES } from "../text/names.js";
import { Menu } from "../ui/controls.js";

/** The span of the address, in ISO 8601; what is undefined is open. @returns {{from?: string, to?: string}} */
export function span() {
  const { range, from, to } = route.value;
  if (range === "custom") return { from: valid(from), to: valid(to) };
  const ms = Object.hasOwn(RANGES, range) ? RANGES[range].ms : 0;
  return ms ? { from: new Date(Date.now() - ms).toISOString() } : {};
}

/** @param {string} time */
const valid = time => (Number.isNaN(Date.parse(time)) ? undefined : new Date(time).toISOString());

export function Range() {
  const { range, from, to } = route.value;
  const id = useId();
  const set = (/** @type {string} */ to) => go(to === "custom" ? { range: to, from: span().from ?? "", to: "" } : { range: to, from: "", to: "" }, { replace: true });
  return html`
    <div class="range">
      <label class="offscreen" for=${id}>Time</label>
      <select id=${id} onChange=${(/** @type {any} */ event) => set(event.target.value)}>
        ${Object.entries(RANGES).map(([key, { name }]) => html`<option key=${key} value=${key} selected=${range === key}>${name}</option>`)}
        <option value="all" selected=${range === "all"}>All that is kept</option>
        <option value="custom" selected=${range === "custom"}>From … to …</option>
      </select>
      ${range === "custom" && html`
        <${Moment} label="From" value=${from} onChange=${(/** @type {string} */ value) => go({ from: value }, { replace: true })} />
        <${Moment} label="To" value=${to} onChange=${(/** @type {string} */ value) => go({ to: value }, { replace: true })} />
      `}
    </div>
  `;
}

/** @param {{label: string, value: string, onChange: (value: string) => void}} props */
function Moment({ label, value, onChange }) {
  const time = Date.parse(value);
  const shift = new Date().getTimezoneOffset() * 60_000;
  const local = Number.isNaN(time) ? "" : new Date(time - shift).toISOString().slice(0, 16);
  const change = (/** @type {any} */ event) => onChange(event.target.value ? new Date(event.target.value).toISOString() : "");
  return html`<label class="moment">${label} <input type="datetime-local" value=${local} onChange=${change} /></label>`;
}

/**
 * Some of many kinds; none chosen = what is usual.
 *
 * @param {{label: string, usual: string, all: readonly string[], chosen: string[], name: (one: string) => string, onChange: (chosen: string[]) => void}} props
 */
export function Kinds({ label, usual, all, chosen, name, onChange }) {
  const text = chosen.length === 0 ? usual : chosen.length === 1 ? name(chosen[0]) : `${chosen.length} chosen`;
  const toggle = (/** @type {string} */ one) => onChange(all.filter(other => (other === one ? !chosen.includes(one) : chosen.includes(other))));
  return html`
    <${Menu} class="kinds" label=${`Filter by ${label}: ${text}`} button=${html`<span>${text}</span>`}>
      ${() => html`
        <fieldset>
          <legend class="offscreen">${label}</legend>
          ${all.map(one => html`
            <label key=${one} class="check"><input type="checkbox" checked=${chosen.includes(one)} value=${one} onChange=${() => toggle(one)} /> ${name(one)}</label>
          `)}
        </fieldset>
        ${chosen.length > 0 && html`<button type="button" class="link" onClick=${() => onChange([])}>${usual}</button>`}
      `}
    <//>
  `;
}
