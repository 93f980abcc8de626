// What a client said of itself, as a tree that opens and closes.
import { html } from "../html.js";
import { Text } from "../ui/text.js";

/** @param {{value: unknown, name?: string, depth?: number}} props */
export function Tree({ value, name, depth = 0 }) {
  const label = name === undefined ? null : html`<span class="tree-name"><${Text} value=${name} none="(empty)" /></span>`;
  if (value === null || typeof value !== "object") return html`<div class="leaf">${label}<${Leaf} value=${value} /></div>`;
  const entries = Object.entries(value);
  const many = Array.isArray(value);
  const about = many ? `${entries.length} in a list` : entries.length === 0 ? "nothing" : "";
  const children = entries.map(([key, child]) => html`<${Tree} key=${key} name=${key} value=${child} depth=${depth + 1} />`);
  if (depth === 0) return html`<div class="tree">${children.length ? children : html`<span class="none">nothing</span>`}</div>`;
  return html`
    <details open=${depth < 3}>
      <summary>${label}<span class="quiet"> ${about}</span></summary>
      <div class="branch">${children}</div>
    </details>
  `;
}

/** @param {{value: unknown}} props */
const Leaf = ({ value }) => html`
  <span class="tree-value ${typeof value}">${typeof value === "string" ? html`<${Text} value=${value} none="(empty)" />` : String(value)}</span>
`;
