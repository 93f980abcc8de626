// The end of a list that is read page by page.
import { html } from "../html.js";
import { plural } from "../text/format.js";
import { Button, Empty, Loading } from "../ui/controls.js";

/** @param {{pages: import("../state/pages.js").Pages<any>, what: string, title: string, none: string, icon: string}} props */
export function More({ pages, what, title, none, icon }) {
  const items = pages.items.value;
  if (pages.problem.value) {
    return html`<${Empty} icon="alert" title="This could not be read" action=${html`<${Button} onClick=${() => pages.next()}>Try again<//>`}>${pages.problem.value}<//>`;
  }
  if (!items) return html`<${Loading} />`;
  if (items.length === 0) return html`<${Empty} icon=${icon} title=${title}>${none}<//>`;
  return html`
    <nav class="pager" aria-label="More">
      <p class="tabular">${plural(items.length, what)}${pages.more.value ? " so far" : ""}</p>
      ${pages.more.value && html`<${Button} busy=${pages.loading.value} onClick=${() => pages.next()}>Show more<//>`}
    </nav>
  `;
}
