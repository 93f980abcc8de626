// Text that clients wrote. It is shown as text, kept from turning around what stands beside it, and what cannot be seen in it is named.
import { html } from "../html.js";
import { parts } from "../text/visible.js";

export { plain } from "../text/visible.js";

/** @param {{value: string | null | undefined, none?: string, mono?: boolean}} props */
export function Text({ value, none = "—", mono = false }) {
  if (value === null || value === undefined || value === "") return html`<span class="none">${none}</span>`;
  return html`<bdi class=${mono ? "mono" : undefined}>${parts(value).map(({ part, code }) => part ?? html`<span class="control">${code}</span>`)}</bdi>`;
}
