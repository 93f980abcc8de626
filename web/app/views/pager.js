import { html } from "../html.js";
import { view } from "../state/live.js";
import { go, PAGE_SIZES, route } from "../state/route.js";
import { count } from "../text/format.js";
import { Button } from "../ui/controls.js";

export function Pager() {
  const { page, pageSize } = route.value;
  const { filteredTotal = 0, items = [], query } = view.value ?? {};
  const pages = Math.max(1, Math.ceil(filteredTotal / pageSize));
  const first = (page - 1) * pageSize + 1;
  const range = items.length ? `${count(first)}–${count(first + items.length - 1)} of ${count(filteredTotal)}` : `0 of ${count(filteredTotal)}`;
  return html`
    <nav class="pager" aria-label="Pages">
      <p class="tabular" data-pager="range">${range}${query?.search ? " matching" : ""}</p>
      <label>Rows
        <select onChange=${(/** @type {any} */ event) => go({ pageSize: Number(event.target.value), page: 1 }, { replace: true })}>
          ${PAGE_SIZES.map(size => html`<option key=${size} value=${size} selected=${size === pageSize}>${size}</option>`)}
        </select>
      </label>
      <div class="steps">
        <${Button} icon="left" label="Previous page" disabled=${page <= 1} onClick=${() => go({ page: Math.min(page - 1, pages) })} />
        <span class="tabular" data-pager="page">Page ${count(page)} of ${count(pages)}</span>
        <${Button} icon="right" label="Next page" disabled=${page >= pages} onClick=${() => go({ page: page + 1 })} />
      </div>
    </nav>
  `;
}
