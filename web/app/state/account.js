// Who is signed in, what the key may do, and what the plan allows.
import { computed, signal } from "../html.js";
import { asked, explain, manage, onLost } from "./api.js";

/**
 * @typedef {import("../client.js").SignIn} SignIn
 * @typedef {import("../client.js").Scope} Scope
 * @typedef {import("../client.js").AccountLimits} AccountLimits
 */

/** undefined = not known yet, null = nobody. */
export const account = signal(/** @type {SignIn | null | undefined} */ (undefined));
/** Why nobody is signed in any more, or why it is not known. */
export const notice = signal("");
export const limits = signal(/** @type {AccountLimits | null} */ (null));

/** Whether the key has a scope. @param {Scope} scope */
export const may = scope => account.value?.key.scopes.includes(scope) ?? false;

export const canRead = computed(() => may("sessions:read"));
export const canDisconnect = computed(() => may("sessions:disconnect"));

onLost(message => {
  if (!account.peek()) return;
  account.value = null;
  notice.value = `You were signed out: ${message}.`;
});

export async function whoIsThere() {
  notice.value = "";
  try {
    account.value = await manage.signedIn();
  } catch (error) {
    notice.value = explain(error);
  }
  void readLimits();
}

/** @param {string} key */
export async function signIn(key) {
  account.value = await manage.signIn(key);
  notice.value = "";
  void readLimits();
}

export async function signOut() {
  try {
    await manage.signOut();
  } finally {
    account.value = null;
    notice.value = "";
    limits.value = null;
  }
}

export async function readLimits() {
  if (!may("account:read")) return;
  limits.value = await asked(manage.limits()).catch(() => null);
}
