// Which question is asked, if any: one at a time.
import { signal } from "../html.js";

/**
 * @typedef {{id: string, who: string}} Target a session and what a person calls it
 * @typedef {{kind: "disconnect", target: Target} | {kind: "matching"} | {kind: "revoke"} | {kind: "help"} | {kind: "connect"}} Question
 */

export const dialog = signal(/** @type {Question | null} */ (null));

/** @param {Question} question */
export function open(question) {
  dialog.value = question;
}

export function close() {
  dialog.value = null;
}
