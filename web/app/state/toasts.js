// Short messages that go away by themselves.
import { signal } from "../html.js";

/** @typedef {{id: number, text: import("../html.js").Children, tone: "good" | "bad"}} Toast */

export const toasts = signal(/** @type {Toast[]} */ ([]));

const STAY = 6000;
let last = 0;

/** @param {Toast["text"]} text @param {Toast["tone"]} [tone] */
export function tell(text, tone = "good") {
  const id = ++last;
  toasts.value = [...toasts.value.slice(-2), { id, text, tone }];
  setTimeout(() => dismiss(id), STAY);
}

/** @param {number} id */
export function dismiss(id) {
  toasts.value = toasts.value.filter(toast => toast.id !== id);
}
