// What a table shows while its page changes under somebody's pointer: nothing moves there. The row under it and those above stay where
// they are, and what has left stays in its place, marked, until the pointer goes; rows below follow the page.
import { compareRows } from "../client.js";

/**
 * @typedef {import("../client.js").Row} Row
 * @typedef {{row: Row, gone: boolean}} Shown gone: it has left the page and stays for the pointer's sake
 */

/**
 * @param {readonly Shown[]} shown what is on the screen
 * @param {readonly Row[]} page what is true
 * @param {string | null} held the server id of the row under the pointer
 * @param {number} size of the page
 * @returns {{rows: Shown[], waiting: number}} waiting: rows of the page that are not shown yet
 */
export function arrange(shown, page, held, size) {
  const at = held === null ? -1 : shown.findIndex(({ row }) => row.serverId === held);
  const before = new Map(shown.map(one => [one.row, one]));
  if (at < 0) return { rows: page.map(row => kept(before.get(row), row)), waiting: 0 };
  const rows = new Map(page.map(row => [row.serverId, row]));
  const head = shown.slice(0, at + 1).map((one, i) => {
    const row = rows.get(one.row.serverId);
    if (!row) return one.gone ? one : { row: one.row, gone: true };
    return i === at && !one.gone ? one : kept(before.get(row), row);
  });
  const inHead = new Set(head.map(({ row }) => row.serverId));
  const edge = shown[at].row;
  const below = page.filter(row => !inHead.has(row.serverId) && compareRows(edge, row) < 0).slice(0, Math.max(0, size - head.length));
  const all = [...head, ...below.map(row => kept(before.get(row), row))];
  return { rows: all, waiting: page.length - below.length - page.filter(row => inHead.has(row.serverId)).length };
}

/** @param {Shown | undefined} before @param {Row} row @returns {Shown} */
const kept = (before, row) => (before && !before.gone ? before : { row, gone: false });
