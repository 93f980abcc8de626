// The public API, by the cookie of the sign-in. A call that finds that cookie worthless ends the sign-in on the page as well.
import { Manage, StatusError } from "../client.js";

export const manage = new Manage();

let missing = "";

/** For what ends sessions, with `acted`. */
export const acts = new Manage({ onPartial: (what) => { missing = what; } });

/** @type {(message: string) => void} */
let lost = () => {};

/** Says what to do when the sign-in has ended. @param {(message: string) => void} then */
export function onLost(then) {
  lost = then;
}

/**
 * Passes an answer on; when the key is not good any more the page hears of it, too.
 *
 * @template T
 * @param {Promise<T>} answer
 * @returns {Promise<T>}
 */
export async function asked(answer) {
  try {
    return await answer;
  } catch (error) {
    heard(error);
    throw error;
  }
}

/**
 * Passes on how many sessions an act has ended, and what to say when it did not reach everything ("" when it did).
 *
 * @param {Promise<number>} act of `acts`
 * @returns {Promise<[ended: number, partly: string]>}
 */
export async function acted(act) {
  missing = "";
  const ended = await asked(act);
  return [ended, (missing.includes("nodes") ? " Not every server answered: theirs are not counted." : "") +
    (missing.includes("store") ? " The database is away: the record follows when it is back." : "")];
}

/** @param {unknown} error */
export function heard(error) {
  if (error instanceof StatusError && error.code.startsWith("api_key_")) lost(error.message);
}

/** What to tell a person of an error. @param {unknown} error */
export function explain(error) {
  if (error instanceof StatusError) return sentence(error.message);
  if (error instanceof Error && error.name === "NetworkError") return "The server cannot be reached.";
  return sentence(error instanceof Error ? error.message : String(error));
}

/** @param {string} text */
function sentence(text) {
  const upper = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?…]$/.test(upper) ? upper : upper + ".";
}

/** Whether an error is the refusal with one of the codes. @param {unknown} error @param {string[]} codes */
export function refused(error, ...codes) {
  return error instanceof StatusError && codes.includes(error.code);
}
