// A time that ticks by itself: only its text changes.
import { html, useComputed, useSignal } from "../html.js";
import { now } from "../state/clock.js";
import { duration, moment, relative } from "../text/format.js";

/** @param {{at: number | string}} props */
export function Ago({ at }) {
  const time = useSignal(at);
  time.value = at;
  const text = useComputed(() => relative(time.value, now.value));
  return html`<time datetime=${new Date(at).toISOString()} title=${moment(at)}>${text}</time>`;
}

/** How long something lasts that still goes on. @param {{since: number | string}} props */
export function Lasting({ since }) {
  const time = useSignal(since);
  time.value = since;
  const text = useComputed(() => duration(Math.max(0, now.value - Number(new Date(time.value)))));
  return html`<span>${text}</span>`;
}
