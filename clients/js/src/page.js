/** @import { Counts, LivePage, Row } from "./types.js" */
import { OutOfStepError } from "./errors.js";

/**
 * What the messages of a live stream amount to: the rows of one page of a live query, newest first, each once, and the counts.
 *
 * Between two messages of one flush a page can be short of rows, never too long (removals come first); after the flush it is what the
 * HTTP list answers for the same query at that point.
 */
export class Page {
  /** @type {Row[]} */
  #items = [];
  #ready = false;
  /** @type {Omit<LivePage, "items"> & Counts & {partial: string}} */
  #head = { page: 1, pageSize: 0, lastConnectionTime: 0, total: 0, filteredTotal: 0, authorizedSessionCount: 0, partial: "" };

  /** Whether there has been an init. */
  get ready() {
    return this.#ready;
  }

  /**
   * The page as it is now; later messages do not change it. Rows that stay the same stay the same objects, over an init too.
   *
   * @returns {LivePage & Counts & {partial: string}}
   */
  view() {
    return { ...this.#head, items: [...this.#items] };
  }

  /**
   * Changes the page as one message of the stream says. Messages of other types change nothing. Throws an OutOfStepError when the
   * message does not fit the page, which is of no further use then, until an init.
   *
   * @param {Record<string, any>} message
   */
  apply(message) {
    switch (message.type) {
      case "init": return this.#init(message);
      case "added": return this.#add(checked(message, this.#ready));
      case "updated": return this.#update(checked(message, this.#ready));
      case "removed": return this.#remove(message);
      case "last_connection_time":
        this.#must(this.#ready && Number.isSafeInteger(message.value), "last_connection_time");
        this.#head.lastConnectionTime = message.value;
        return;
      case "totals":
        this.#must(this.#ready, "totals before init");
        Object.assign(this.#head, countsOf(message), { partial: typeof message.partial === "string" ? message.partial : "" });
    }
  }

  /** @param {boolean} fits @param {string} message */
  #must(fits, message) {
    if (!fits) throw new OutOfStepError(message);
  }

  /** @param {Record<string, any>} message */
  #init(message) {
    const { items, page, pageSize, lastConnectionTime } = message;
    this.#must(Array.isArray(items) && items.every(isRow) && [page, pageSize, lastConnectionTime].every(Number.isSafeInteger), "init");
    this.#must(items.length <= pageSize, `init has ${items.length} rows on a page of ${pageSize}`);
    for (let i = 1; i < items.length; i++) this.#must(compareRows(items[i - 1], items[i]) < 0, "init is out of order");
    const before = new Map(this.#items.map(row => [row.serverId, row]));
    this.#head = { page, pageSize, lastConnectionTime, ...countsOf(message), partial: "" };
    this.#items = items.map((/** @type {Row} */ row) => keep(before.get(row.serverId), row));
    this.#ready = true;
  }

  /** @param {Row} row */
  #add(row) {
    this.#must(this.#indexOf(row.serverId) < 0, `added ${row.serverId}, which is there`);
    this.#must(this.#items.length < this.#head.pageSize, `added ${row.serverId} to a full page`);
    let low = 0;
    for (let high = this.#items.length; low < high;) {
      const middle = (low + high) >> 1;
      if (compareRows(/** @type {Row} */ (this.#items[middle]), row) < 0) low = middle + 1;
      else high = middle;
    }
    this.#items.splice(low, 0, row);
  }

  /** @param {Row} row */
  #update(row) {
    const i = this.#indexOf(row.serverId);
    this.#must(i >= 0, `updated ${row.serverId}, which is not there`);
    this.#must(this.#items[i]?.createdAt === row.createdAt, `updated moved ${row.serverId}`);
    this.#items[i] = keep(this.#items[i], row);
  }

  /** @param {Record<string, any>} message */
  #remove(message) {
    this.#must(this.#ready, "removed before init");
    const i = this.#indexOf(message.serverId);
    this.#must(i >= 0, `removed ${message.serverId}, which is not there`);
    this.#items.splice(i, 1);
  }

  /** @param {string} serverId */
  #indexOf(serverId) {
    return this.#items.findIndex(row => row.serverId === serverId);
  }
}

/**
 * The order of every list: createdAt, then serverId, both descending.
 *
 * @param {Row} a @param {Row} b
 * @returns {number} negative when a comes first
 */
export function compareRows(a, b) {
  return b.createdAt - a.createdAt || compareBytes(b.serverId, a.serverId);
}

/**
 * Compares as UTF-8 does byte for byte, which is by code points; JavaScript's `<` puts U+E000–U+FFFF behind what is above U+FFFF.
 *
 * @param {string} a @param {string} b
 */
export function compareBytes(a, b) {
  const length = Math.min(a.length, b.length);
  for (let i = 0; i < length; i++) {
    const x = a.charCodeAt(i), y = b.charCodeAt(i);
    if (x === y) continue;
    const surrogates = Number(isSurrogate(x)) - Number(isSurrogate(y));
    return (x >= 0xd800 && y >= 0xd800 && surrogates) || x - y;
  }
  return a.length - b.length;
}

/** @param {number} unit */
function isSurrogate(unit) {
  return unit >= 0xd800 && unit <= 0xdfff;
}

/**
 * @param {any} row
 * @returns {row is Row}
 */
function isRow(row) {
  return row !== null && typeof row === "object" && typeof row.serverId === "string" && Number.isSafeInteger(row.createdAt);
}

/**
 * @param {Record<string, any>} message
 * @param {boolean} ready
 * @returns {Row}
 */
function checked(message, ready) {
  if (!ready) throw new OutOfStepError(`${message.type} before init`);
  if (!isRow(message.row)) throw new OutOfStepError(`${message.type} without a row`);
  return Object.freeze(message.row);
}

/**
 * @param {Record<string, any>} message
 * @returns {Counts}
 */
function countsOf({ type, total, filteredTotal, authorizedSessionCount }) {
  if (![total, filteredTotal, authorizedSessionCount].every(Number.isSafeInteger)) throw new OutOfStepError(`${type} without its counts`);
  return { total, filteredTotal, authorizedSessionCount };
}

/**
 * The object that was there if the row says the same, so that whoever shows rows can compare by identity.
 *
 * @param {Row | undefined} before @param {Row} row
 */
function keep(before, row) {
  if (before && JSON.stringify(before) === JSON.stringify(row)) return before;
  return Object.freeze(row);
}
