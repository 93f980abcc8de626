// The applications that the key may see, and the one that is looked at.
import { computed, effect, signal } from "../html.js";
import { account, may } from "./account.js";
import { asked, explain, manage } from "./api.js";
import { goDuration } from "../text/durations.js";
import { go, route } from "./route.js";

/**
 * @typedef {import("../client.js").Application} Application
 *
 * An application as far as it is known: a key without applications:read knows ids, or numbers, alone.
 *
 * @typedef {object} Known
 * @property {string} id "" while it is only known by its number
 * @property {string} ref what addresses have
 * @property {string} name
 * @property {string} number
 * @property {Application["state"]} state
 * @property {number} idleAfterMs 0 = not known
 * @property {string} publishableKey "" = not known
 * @property {number} live
 */

export const applications = signal(/** @type {Known[] | null} */ (null));
export const problem = signal("");

/** @param {string} ref */
const find = ref => applications.value?.find(app => app.ref === ref || app.id === ref.toLowerCase());

/** The application of the address; null while it is not known, and when there is none. */
export const current = computed(() => {
  const ref = route.value.application;
  if (!ref || !applications.value) return null;
  return find(ref) ?? (may("applications:read") ? null : unknown(ref));
});

/** The address names an application that the key does not see. */
export const missing = computed(() => applications.value !== null && route.value.application !== "" && current.value === null);

/** @param {string} ref @returns {Known} */
const unknown = ref => ({
  id: ref.includes("-") ? ref : "", ref, name: `Application ${ref.split("-")[0]}`, number: ref.includes("-") ? "" : ref, state: "active",
  idleAfterMs: 0, publishableKey: "", live: 0,
});

/** @param {Application} app @returns {Known} */
const known = app => ({
  id: app.id, ref: app.number, name: app.name, number: app.number, state: app.state, idleAfterMs: goDuration(app.idleAfter),
  publishableKey: app.publishableKey, live: app.sessions?.live ?? 0,
});

export async function readApplications() {
  problem.value = "";
  try {
    applications.value = await list();
  } catch (error) {
    problem.value = explain(error);
  }
}

/** @returns {Promise<Known[]>} */
async function list() {
  const key = account.peek()?.key;
  if (may("applications:read")) {
    const apps = (await asked(manage.applications())).map(known);
    return [...apps.filter(app => app.state !== "archived"), ...apps.filter(app => app.state === "archived")];
  }
  return key && key.applications !== "all" ? key.applications.map(unknown) : [];
}

// One that is not in the list may be newer than the list.
let sought = "";
effect(() => {
  if (!missing.value || sought === route.value.application) return;
  sought = route.value.application;
  void readApplications();
});

// The list follows the sign-in; an address that names no application gets the first.
effect(() => {
  applications.value = null;
  if (account.value) void readApplications();
});
effect(() => {
  const first = applications.value?.[0];
  if (first && !route.value.application && route.value.view !== "audit") go({ application: first.ref }, { replace: true });
});
