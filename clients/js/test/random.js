/**
 * Numbers that look random and are the same for the same seed (xorshift32), so that a failure can be repeated: ROLLCALL_SEED.
 *
 * @param {number} seed
 */
export function random(seed) {
  let x = (seed | 0) || 1;
  const next = () => {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    return x >>> 0;
  };
  return {
    /** @param {number} n from 0 to n - 1 */
    below: n => next() % n,
    /** @template T @param {readonly T[]} of @returns {T} */
    pick: of => /** @type {T} */ (of[next() % of.length]),
    /** @template T @param {T[]} list */
    shuffle: list => {
      for (let i = list.length - 1; i > 0; i--) {
        const j = next() % (i + 1);
        [list[i], list[j]] = [/** @type {T} */ (list[j]), /** @type {T} */ (list[i])];
      }
      return list;
    },
  };
}

export const seed = Number(process.env.ROLLCALL_SEED) || Date.now() & 0x7fffffff;
