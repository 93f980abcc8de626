/**
 * Events of one object. Listeners are called in the order in which they were added, each with one value. One that throws disturbs
 * neither the others nor the object: its error surfaces as an uncaught one, as with the platform's own events.
 *
 * @template {Record<string, any>} Events names of events, and what their listeners are given
 */
export class Emitter {
  /** @type {Map<keyof Events, Set<(value: any) => void>>} */
  #listeners = new Map();

  /**
   * Calls listener whenever the event happens.
   *
   * @template {keyof Events} K
   * @param {K} type
   * @param {(value: Events[K]) => void} listener
   * @returns {() => void} removes the listener
   */
  on(type, listener) {
    let listeners = this.#listeners.get(type);
    if (!listeners) this.#listeners.set(type, listeners = new Set());
    const entry = (/** @type {Events[K]} */ value) => listener(value); // so that adding it twice calls it twice
    listeners.add(entry);
    return () => { listeners.delete(entry); };
  }

  /**
   * The value of the next such event.
   *
   * @template {keyof Events} K
   * @param {K} type
   * @returns {Promise<Events[K]>}
   */
  once(type) {
    return new Promise(resolve => {
      const off = this.on(type, value => {
        off();
        resolve(value);
      });
    });
  }

  /**
   * @protected
   * @template {keyof Events} K
   * @param {K} type
   * @param {Events[K]} value
   */
  emit(type, value) {
    for (const listener of [...this.#listeners.get(type) ?? []]) {
      try {
        listener(value);
      } catch (error) {
        queueMicrotask(() => { throw error; });
      }
    }
  }
}
