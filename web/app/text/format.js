// Numbers and times for people.

const numbers = new Intl.NumberFormat();
const moments = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const minutes = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });

/** @param {number} n */
export const count = n => numbers.format(n);

/** @param {number} n @param {string} one @param {string} [many] */
export const plural = (n, one, many = one + "s") => `${count(n)} ${n === 1 ? one : many}`;

/** @param {number | string} time Unix milliseconds, or ISO 8601 */
export const moment = time => moments.format(new Date(time));

/** @param {number} seconds Unix */
export const clock = seconds => minutes.format(new Date(seconds * 1000));

const SECOND = 1000, MINUTE = 60 * SECOND, HOUR = 60 * MINUTE, DAY = 24 * HOUR;

/** The largest unit alone: "7 min". @param {number} ms */
export function rough(ms) {
  if (ms < MINUTE) return `${Math.max(0, Math.floor(ms / SECOND))} s`;
  if (ms < HOUR) return `${Math.floor(ms / MINUTE)} min`;
  if (ms < 2 * DAY) return `${Math.floor(ms / HOUR)} h`;
  return `${Math.floor(ms / DAY)} days`;
}

/** @param {number | string} time @param {number} now */
export function relative(time, now) {
  const ms = now - Number(new Date(time));
  if (Math.abs(ms) < 2 * SECOND) return "just now";
  return ms < 0 ? `in ${rough(-ms + (-ms > HOUR ? HOUR / 2 : 0))}` : `${rough(ms)} ago`;
}

/** The two largest units: "1 h 04 min". @param {number} ms */
export function duration(ms) {
  if (ms < SECOND) return `${Math.max(0, Math.round(ms))} ms`;
  if (ms < MINUTE) return `${Math.floor(ms / SECOND)} s`;
  if (ms < HOUR) return `${Math.floor(ms / MINUTE)} min ${Math.floor((ms % MINUTE) / SECOND)} s`;
  if (ms < DAY) return `${Math.floor(ms / HOUR)} h ${Math.floor((ms % HOUR) / MINUTE)} min`;
  return `${Math.floor(ms / DAY)} d ${Math.floor((ms % DAY) / HOUR)} h`;
}
