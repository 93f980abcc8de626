/** @import { Row } from "../src/index.js" */
import { random } from "./random.js";

/** Names whose order differs between UTF-8 and UTF-16, and between bytes and letters. */
const NODES = ["srv-01", "srv-1", "Srv", "ä", "\uffee", "\u{1f600}"];

/**
 * A naive server: all sessions in a list, a page of which is shown. Nothing of it is shared with the client.
 *
 * @param {ReturnType<typeof random>} r
 * @param {number} pageSize
 */
export function model(r, pageSize) {
  /** @type {Row[]} */
  let all = [];
  let made = 0;
  /** @param {Row} a @param {Row} b */
  const newestFirst = (a, b) => b.createdAt - a.createdAt || Buffer.compare(Buffer.from(b.serverId), Buffer.from(a.serverId));
  const show = (/** @type {number} */ page) => [...all].sort(newestFirst).slice((page - 1) * pageSize, page * pageSize);
  return {
    show,
    total: () => all.length,
    /** Some sessions come, go and change. */
    churn() {
      for (let n = r.below(6); n > 0; n--) {
        const what = r.below(10);
        if (what < 4 || all.length === 0) {
          const serverId = `${r.pick(NODES)}:${made++}`;
          all.push({ serverId, createdAt: r.below(8), ipAddress: "203.0.113.1", clientId: serverId, login: null, license: null });
        } else if (what < 8) {
          all.splice(r.below(all.length), 1);
        } else {
          const i = r.below(all.length);
          all[i] = { ...r.pick([/** @type {Row} */ (all[i])]), login: r.pick(["", "a", "<img onerror=alert(1)>", "\u202e", null]) };
        }
      }
      all = r.shuffle(all);
    },
    init(/** @type {number} */ page) {
      return {
        type: "init", success: true, items: structuredClone(show(page)), page, pageSize, lastConnectionTime: made,
        total: all.length, filteredTotal: all.length, authorizedSessionCount: made,
      };
    },
    /**
     * The messages that lead from what was shown to what is, in the order that the server promises; within a kind in any order.
     *
     * @param {Row[]} before
     * @param {number} page
     * @returns {Record<string, any>[]}
     */
    flush(before, page) {
      const after = show(page);
      const find = (/** @type {Row[]} */ rows, /** @type {Row} */ row) => rows.find(other => other.serverId === row.serverId);
      const removed = before.filter(row => !find(after, row)).map(row => ({ type: "removed", serverId: row.serverId }));
      const added = after.filter(row => !find(before, row)).map(row => ({ type: "added", row: structuredClone(row) }));
      const updated = after.filter(row => find(before, row) && JSON.stringify(find(before, row)) !== JSON.stringify(row))
        .map(row => ({ type: "updated", row: structuredClone(row) }));
      const totals = { type: "totals", total: all.length, filteredTotal: all.length, authorizedSessionCount: made };
      return [...r.shuffle(removed), ...r.shuffle(added), ...r.shuffle(updated), { type: "last_connection_time", value: made }, totals];
    },
  };
}
