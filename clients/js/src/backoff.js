/**
 * Spreads the returns of many clients over time: each wait is drawn from the whole of [0, ceiling), and the ceiling doubles with
 * every attempt. Full jitter, because after a restart all clients come back at once: waits that share a lower bound stay a crowd.
 */
export class Backoff {
  #attempt = 0;

  /** @param {number} min @param {number} max milliseconds */
  constructor(min, max) {
    this.min = min;
    this.max = max;
  }

  /**
   * How long to wait before the next attempt, which it counts. The server's own wish is a lower bound.
   *
   * @param {number} [atLeast] milliseconds
   */
  next(atLeast = 0) {
    const ceiling = Math.min(this.max, this.min * 2 ** Math.min(this.#attempt++, 30));
    return Math.min(LONGEST, atLeast + Math.random() * ceiling);
  }

  reset() {
    this.#attempt = 0;
  }
}

/** The longest that timers can wait: beyond it they fire at once. */
const LONGEST = 2 ** 31 - 1;

/** A wait that can be cut short: by wake, by a signal, and in browsers by the network's return. */
export class Pause {
  /** @type {(() => void) | null} */
  #wake = null;

  /**
   * @param {number} ms
   * @param {AbortSignal} signal ends the wait; it does not reject
   * @returns {Promise<void>}
   */
  wait(ms, signal) {
    return new Promise(resolve => {
      const done = () => {
        clearTimeout(timer);
        signal.removeEventListener("abort", done);
        globalThis.removeEventListener?.("online", done);
        this.#wake = null;
        resolve();
      };
      const timer = setTimeout(done, ms);
      this.#wake = done;
      signal.addEventListener("abort", done);
      globalThis.addEventListener?.("online", done);
      if (signal.aborted) done();
    });
  }

  wake() {
    this.#wake?.();
  }
}
