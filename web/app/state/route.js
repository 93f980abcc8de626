// What the page shows, as its address says it.
import { computed, signal } from "../html.js";
import { address, defaults, parse } from "./address.js";

export { address, PAGE_SIZES } from "./address.js";

/** @typedef {import("./address.js").Route} Route */

export const route = signal(parse(location));
export const view = computed(() => route.value.view);

/**
 * Goes to another route. What is typed replaces the entry in the history, so that going back does not undo it letter by letter.
 *
 * @param {Partial<Route>} change
 * @param {{replace?: boolean}} [options]
 */
export function go(change, { replace = false } = {}) {
  const next = { ...route.peek(), ...change };
  const to = address(next);
  if (to !== location.pathname + location.search) history[replace ? "replaceState" : "pushState"](null, "", to);
  route.value = next;
}

/** The route of another view: its own filters are as usual. @param {Route["view"]} view @param {string} [application] @returns {Route} */
export const fresh = (view, application = route.value.application) => ({ ...defaults, view, application });

addEventListener("popstate", () => {
  route.value = parse(location);
});

// A plain click on a link of ours changes the route; every other click is the browser's.
addEventListener("click", event => {
  const link = /** @type {Element} */ (event.target).closest?.("a[href]");
  if (!(link instanceof HTMLAnchorElement) || event.defaultPrevented || event.button !== 0) return;
  if (event.metaKey || event.ctrlKey || event.shiftKey || event.altKey || link.target || link.origin !== location.origin || link.hash) return;
  if (link.pathname !== "/audit" && !link.pathname.startsWith("/applications/")) return;
  event.preventDefault();
  go(parse(link));
});
