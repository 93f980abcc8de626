// Keys that work anywhere on the page, but where somebody types or is asked something.
import { open, dialog } from "./state/dialogs.js";
import { account, canDisconnect } from "./state/account.js";
import { fresh, go, route } from "./state/route.js";
import { view } from "./state/live.js";

/** @type {{keys: string[], does: string}[]} */
export const SHORTCUTS = [
  { keys: ["/"], does: "Search" },
  { keys: ["↓", "↑"], does: "Next and previous row" },
  { keys: ["Enter"], does: "Open the row's session" },
  { keys: ["d"], does: "Disconnect the row's session, after asking" },
  { keys: ["]", "["], does: "Next and previous page" },
  { keys: ["1", "2", "3"], does: "Live, ended, audit" },
  { keys: ["Esc"], does: "Close, or clear the search" },
  { keys: ["?"], does: "These shortcuts" },
];

/** @param {EventTarget | null} target */
const types = target => target instanceof HTMLElement && (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName));

/** The links that stand for the rows of a table. */
const rowLinks = () => /** @type {HTMLAnchorElement[]} */ ([...document.querySelectorAll("main .tbody a.row-link")]);

/** @param {number} by */
function moveRow(by) {
  const links = rowLinks();
  const at = links.findIndex(link => link.closest(".tr")?.contains(document.activeElement));
  const next = at < 0 ? (by > 0 ? 0 : links.length - 1) : Math.min(Math.max(at + by, 0), links.length - 1);
  links[next]?.focus();
  links[next]?.scrollIntoView({ block: "nearest" });
}

function disconnectRow() {
  const row = /** @type {HTMLElement | null} */ (document.activeElement?.closest(".tr[data-session]") ?? null);
  if (row?.dataset.session && canDisconnect.value && route.value.view === "live")
    open({ kind: "disconnect", target: { id: row.dataset.session, who: row.dataset.who ?? "" } });
}

/** @param {number} by */
function movePage(by) {
  const { page, pageSize } = route.value;
  const pages = Math.max(1, Math.ceil((view.value?.filteredTotal ?? 0) / pageSize));
  const to = Math.min(Math.max(page + by, 1), pages);
  if (route.value.view === "live" && to !== page) go({ page: to });
}

/** @type {Record<string, () => void>} */
const plain = {
  "/": () => /** @type {HTMLElement | null} */ (document.querySelector("input[type=search]"))?.focus(),
  "?": () => open({ kind: "help" }),
  "ArrowDown": () => moveRow(1),
  "ArrowUp": () => moveRow(-1),
  "d": disconnectRow,
  "[": () => movePage(-1),
  "]": () => movePage(1),
  "1": () => go(fresh("live")),
  "2": () => go(fresh("ended")),
  "3": () => go(fresh("audit")),
};

/** The key that was taken and is still down: the character that some send apart from it is not meant for the field that it led to. */
let taken = "";

export function listen() {
  addEventListener("keypress", event => { if (event.key === taken) event.preventDefault(); }, { capture: true });
  addEventListener("keyup", () => { taken = ""; });
  addEventListener("keydown", event => {
    if (!account.value || event.defaultPrevented) return;
    if (event.ctrlKey || event.metaKey || event.altKey || types(event.target) || dialog.value || document.querySelector("dialog[open]")) return;
    const act = Object.hasOwn(plain, event.key) ? plain[event.key] : undefined;
    if (!act) return;
    event.preventDefault();
    taken = event.key;
    act();
  });
}
