// A list that is read page by page, each asked for with the cursor of the one before.
import { batch, signal } from "../html.js";
import { asked, explain } from "./api.js";

/**
 * @template Item
 * @typedef {{items: Item[], nextCursor?: string, partial?: string}} Answer
 */

/** @template Item */
export class Pages {
  items = signal(/** @type {Item[] | null} */ (null));
  more = signal(false);
  loading = signal(false);
  problem = signal("");
  partial = signal("");
  /** @type {((cursor: string | undefined, signal: AbortSignal) => Promise<Answer<Item>>) | null} */
  #ask = null;
  #cursor = /** @type {string | undefined} */ (undefined);
  #stop = new AbortController();

  /** Reads another list from its start; null = none. @param {((cursor: string | undefined, signal: AbortSignal) => Promise<Answer<Item>>) | null} ask */
  read(ask) {
    this.#stop.abort();
    this.#stop = new AbortController();
    this.#ask = ask;
    this.#cursor = undefined;
    batch(() => {
      this.items.value = null;
      this.more.value = false;
      this.problem.value = "";
      this.partial.value = "";
    });
    return this.next();
  }

  /** Reads the next page. */
  async next() {
    const { signal } = this.#stop;
    if (!this.#ask) return;
    this.loading.value = true;
    try {
      const answer = await asked(this.#ask(this.#cursor, signal));
      if (signal.aborted) return;
      batch(() => {
        this.items.value = [...(this.items.peek() ?? []), ...answer.items];
        this.#cursor = answer.nextCursor;
        this.more.value = answer.nextCursor !== undefined;
        this.partial.value = answer.partial ?? "";
        this.problem.value = "";
        this.loading.value = false;
      });
    } catch (error) {
      if (signal.aborted) return;
      this.problem.value = explain(error);
      this.loading.value = false;
    }
  }

  close() {
    this.#stop.abort();
    this.#ask = null;
  }
}
