// Durations of the API.

/** Milliseconds of a duration as Go writes it. @param {string} text */
export function goDuration(text) {
  const units = /** @type {Record<string, number>} */ ({ h: 3_600_000, m: 60_000, s: 1000, ms: 1 });
  let sum = 0;
  for (const [, n, unit] of text.matchAll(/([0-9.]+)(ms|h|m|s)/g)) sum += Number(n) * units[unit];
  return sum;
}
