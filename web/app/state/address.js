// Addresses: what the page shows, so that a link shows a colleague the same thing.
import { CATEGORIES } from "../client.js";

/**
 * @typedef {import("../client.js").Category} Category
 *
 * @typedef {object} Route
 * @property {"live" | "ended" | "audit"} view
 * @property {string} application its number or id; "" = whichever comes first
 * @property {string} search
 * @property {Category[]} categories
 * @property {number} page
 * @property {number} pageSize
 * @property {string} session the id of the one that is looked at; "" = none
 * @property {string} range a name of RANGES, or "custom" with from and to
 * @property {string} from ISO 8601
 * @property {string} to
 * @property {string[]} reasons
 * @property {string[]} actions
 */

export const PAGE_SIZES = [10, 25, 50];
const DEFAULT_RANGE = "24h";

/** @type {Route} */
export const defaults = {
  view: "live", application: "", search: "", categories: [...CATEGORIES], page: 1, pageSize: 25, session: "",
  range: DEFAULT_RANGE, from: "", to: "", reasons: [], actions: [],
};

/** @param {string} value @param {string[]} all */
const some = (value, all) => all.filter(word => value.split(",").includes(word));

/** @param {string | null} value @param {number} fallback */
function positive(value, fallback) {
  const n = Number(value);
  return Number.isSafeInteger(n) && n > 0 ? n : fallback;
}

/** @param {string | null} value */
const words = value => (value ? value.split(",").filter(Boolean) : []);

/** @param {{pathname: string, search: string}} url @returns {Route} */
export function parse(url) {
  const query = new URLSearchParams(url.search);
  const [, first, ref = "", below = ""] = url.pathname.split("/");
  const categories = /** @type {Category[]} */ (some(query.get("categories") ?? "", [...CATEGORIES]));
  const size = positive(query.get("pageSize"), defaults.pageSize);
  return {
    view: first === "audit" ? "audit" : below === "ended" ? "ended" : "live",
    application: first === "applications" ? decode(ref) : query.get("application") ?? "",
    search: [...(query.get("search") ?? "")].slice(0, 128).join(""),
    categories: categories.length ? categories : defaults.categories,
    page: positive(query.get("page"), 1),
    pageSize: PAGE_SIZES.includes(size) ? size : defaults.pageSize,
    session: query.get("session") ?? "",
    range: query.get("range") ?? DEFAULT_RANGE,
    from: query.get("from") ?? "", to: query.get("to") ?? "",
    reasons: words(query.get("reason")), actions: words(query.get("action")),
  };
}

/** @param {string} part */
function decode(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return "";
  }
}

/** The address of a route: what is as usual is left out. @param {Route} to */
export function address(to) {
  const query = new URLSearchParams();
  /** @param {string} name @param {string} value @param {string} [usual] */
  const set = (name, value, usual = "") => value !== usual && query.set(name, value);
  let path = to.application ? `/applications/${encodeURIComponent(to.application)}` : "/";
  if (to.view === "audit") {
    path = "/audit";
    set("application", to.application);
    set("action", to.actions.join(","));
  } else if (to.view === "ended") {
    path = to.application ? path + "/ended" : path;
    set("reason", to.reasons.join(","));
  } else {
    set("search", to.search);
    set("categories", to.categories.join(","), defaults.categories.join(","));
    set("page", String(to.page), "1");
    set("pageSize", String(to.pageSize), String(defaults.pageSize));
  }
  if (to.view !== "live") {
    set("range", to.range, DEFAULT_RANGE);
    if (to.range === "custom") {
      set("from", to.from);
      set("to", to.to);
    }
  }
  set("session", to.session);
  const text = query.toString();
  return text ? `${path}?${text}` : path;
}
