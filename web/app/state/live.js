// The live query of the address, and the rows that the table shows of it. However fast the server tells of changes, the screen takes
// them once a frame.
import { batch, computed, effect, signal, untracked } from "../html.js";
import { account } from "./account.js";
import { heard, manage } from "./api.js";
import { current } from "./applications.js";
import { arrange } from "./hold.js";
import { route, view as shownView } from "./route.js";
import { tell } from "./toasts.js";

/**
 * @typedef {import("../client.js").View} View
 * @typedef {import("../client.js").LiveQuery} LiveQuery
 * @typedef {import("../client.js").Watch} Watch
 * @typedef {import("./hold.js").Shown} Shown
 * @typedef {{state: import("../client.js").WatchState, stale: boolean, retryAt: number}} Connection
 */

/** What the server says; null before its first word. */
export const view = signal(/** @type {View | null} */ (null));
/** The rows on the screen, which wait for the pointer. */
export const rows = signal(/** @type {readonly Shown[]} */ ([]));
/** How many rows of the page wait. */
export const waiting = signal(0);
/** Counts the pages that came whole: what is on the screen then is no change of what was there before. */
export const turn = signal(0);
export const connection = signal(/** @type {Connection} */ ({ state: "connecting", stale: true, retryAt: 0 }));
/** Why there is no stream and will be none. */
export const refusal = signal(/** @type {Error | null} */ (null));
/** The address asks for another page than the one that is on the screen. */
export const moving = signal(false);

export const partial = computed(() => view.value?.partial ?? "");

/** The live query of the address; null where there is none. */
const wanted = computed(() => {
  const { search, categories, page, pageSize } = route.value;
  const app = current.value;
  if (!account.value || !app || shownView.value !== "live") return null;
  return { application: app.id || app.ref, search, categories, page, pageSize };
});
const application = computed(() => wanted.value?.application ?? null);

/** @type {Watch | null} */
let watch = null;
/** The server id of the row under the pointer. @type {string | null} */
let held = null;
let frame = 0;
let fresh = false;
/** What the watch was asked last. @type {LiveQuery | null} */
let asked = null;

effect(() => {
  const id = application.value;
  const query = untracked(() => wanted.value);
  batch(() => {
    view.value = null;
    rows.value = [];
    waiting.value = 0;
    refusal.value = null;
    connection.value = { state: "connecting", stale: true, retryAt: 0 };
  });
  if (id === null || !query) return;
  asked = query;
  const opened = follow(query);
  return () => opened.close();
});

effect(() => {
  const query = wanted.value;
  if (!query || !watch || watch.state === "closed" || asked === query) return;
  asked = query;
  const { application: _, ...rest } = query;
  watch.query(rest);
  moving.value = watch.moving;
});

/** @param {LiveQuery} query */
function follow(query) {
  const opened = manage.watch(query);
  watch = opened;
  opened.on("change", ({ reset }) => {
    if (watch !== opened) return;
    fresh ||= reset;
    frame ||= requestAnimationFrame(paint);
  });
  opened.on("state", ({ state, stale, retryInMs = 0 }) => {
    if (watch === opened) connection.value = { state, stale, retryAt: retryInMs ? Date.now() + retryInMs : 0 };
  });
  opened.on("refused", error => tell(error.message, "bad"));
  opened.on("end", error => {
    if (watch !== opened || !error) return;
    refusal.value = error;
    heard(error);
  });
  return opened;
}

function paint() {
  frame = 0;
  const latest = watch?.view;
  if (!latest) return;
  const moved = fresh && !sameQuery(view.peek()?.query, latest.query);
  const next = arrange(moved ? [] : rows.peek(), latest.items, moved ? null : held, latest.pageSize);
  batch(() => {
    view.value = latest;
    rows.value = next.rows;
    waiting.value = next.waiting;
    moving.value = watch?.moving ?? false;
    if (moved) turn.value++;
  });
  fresh = false;
}

/** @param {LiveQuery | undefined} a @param {LiveQuery} b */
function sameQuery(a, b) {
  return a !== undefined && a.search === b.search && a.page === b.page && a.pageSize === b.pageSize &&
    String(a.categories) === String(b.categories);
}

/** Says which row is under the pointer; null = none. @param {string | null} serverId */
export function hold(serverId) {
  if (held === serverId) return;
  held = serverId;
  frame ||= requestAnimationFrame(paint);
}

/** Connects now instead of when the backoff says. */
export const retry = () => watch?.retry();
