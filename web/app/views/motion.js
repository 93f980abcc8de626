// How rows move: they slide to their new places, come in and go out; cells that changed flash. Rows are of one height, so that nothing
// needs to be measured, and what changes many times a second does not move at all.
import { useLayoutEffect, useRef } from "../html.js";

/**
 * @typedef {import("../client.js").Row} Row
 * @typedef {import("../state/hold.js").Shown} Shown
 */

const SLIDE = { duration: 220, easing: "cubic-bezier(.2,.7,.3,1)" };
const LEAVE = { duration: 180, easing: "ease-in", fill: /** @type {FillMode} */ ("forwards") };
const FLASH = { duration: 1100, easing: "ease-out" };
/** Nothing fades: what is there can be read. */
const COME = [{ clipPath: "inset(0 0 100% 0)", transform: "translateY(-6px)" }, { clipPath: "inset(0)", transform: "none" }];
const GO = [{ clipPath: "inset(0)", transform: "none" }, { clipPath: "inset(0 0 0 100%)", transform: "translateX(16px)" }];
/** Changes closer together than this are a storm after so many of them. */
const CLOSE = 250;
const STORM = 4;
const MOST_LEAVING = 12;
/** More rows that come at once than this are another page, to the eye: nothing slides, and they take the elements of those that leave, for to
 * make them new takes twice as long. */
export const MANY = 8;

const still = matchMedia("(prefers-reduced-motion: reduce)");

/**
 * Moves the rows of a body from where they were to where they are.
 *
 * @param {{current: HTMLElement | null}} body
 * @param {readonly Shown[]} shown
 * @param {number} turn another number = another page, which does not slide
 */
export function useMotion(body, shown, turn) {
  const last = useRef({
    /** @type {Map<string, {at: number, element: HTMLElement}>} */ places: new Map(),
    turn, time: 0, storm: 0, focused: /** @type {string | null} */ (null),
  });
  useLayoutEffect(() => {
    const root = body.current;
    if (!root) return;
    const was = last.current;
    const places = new Map();
    for (const child of root.children) {
      if (child instanceof HTMLElement && child.dataset.id) places.set(child.dataset.id, { at: places.size, element: child });
    }
    const now = performance.now();
    was.storm = now - was.time < CLOSE ? was.storm + 1 : 0;
    was.time = now;
    keepFocus(was.focused, was.places, places);
    const active = document.activeElement?.closest("[data-id]"); // a row's element may have become another's
    if (active instanceof HTMLElement && root.contains(active)) was.focused = active.dataset.id ?? null;
    if (turn === was.turn && was.places.size > 0 && was.storm < STORM && !still.matches && !document.hidden) slide(root, was.places, places);
    was.places = places;
    was.turn = turn;
  }, [shown]);
  useLayoutEffect(() => {
    const root = body.current;
    if (!root) return;
    const note = (/** @type {FocusEvent} */ event) => {
      const row = /** @type {Element} */ (event.target).closest("[data-id]");
      last.current.focused = row instanceof HTMLElement ? row.dataset.id ?? null : null;
    };
    const forget = (/** @type {FocusEvent} */ event) => {
      if (event.relatedTarget) last.current.focused = null; // it went elsewhere, and was not taken away with its row
    };
    root.addEventListener("focusin", note);
    root.addEventListener("focusout", forget);
    return () => {
      root.removeEventListener("focusin", note);
      root.removeEventListener("focusout", forget);
    };
  }, []);
}

/** @typedef {Map<string, {at: number, element: HTMLElement}>} Places */

/**
 * When the row with the focus has left, the one in its place gets it.
 *
 * @param {string | null} focused @param {Places} before @param {Places} after
 */
function keepFocus(focused, before, after) {
  if (!focused || after.has(focused) || document.activeElement !== document.body) return;
  const at = before.get(focused)?.at;
  if (at === undefined) return;
  const rows = [...after.values()];
  /** @type {HTMLElement | null | undefined} */ (rows[Math.min(at, rows.length - 1)]?.element.querySelector("a.row-link"))?.focus({ preventScroll: true });
}

/** @param {HTMLElement} root @param {Places} before @param {Places} after */
function slide(root, before, after) {
  let come = 0;
  for (const id of after.keys()) if (!before.has(id)) come++;
  if (come > MANY) return;
  const [first] = after.values();
  const height = first?.element.offsetHeight ?? 0;
  for (const [id, { at, element }] of after) {
    const was = before.get(id);
    if (!was) element.animate(COME, SLIDE);
    else if (was.at !== at) element.animate([{ transform: `translateY(${(was.at - at) * height}px)` }, { transform: "none" }], SLIDE);
  }
  let leaving = 0;
  for (const [id, { at, element }] of before) {
    if (!after.has(id) && !element.isConnected && leaving++ < MOST_LEAVING) leave(root, element, at * height);
  }
}

/** The row is no longer the table's: what goes out is only its picture. @param {HTMLElement} root @param {HTMLElement} element @param {number} top */
function leave(root, element, top) {
  const picture = /** @type {HTMLElement} */ (element.cloneNode(true));
  for (const name of ["data-id", "data-session", "role"]) picture.removeAttribute(name);
  picture.setAttribute("aria-hidden", "true");
  picture.inert = true;
  picture.classList.add("leaving");
  picture.style.top = `${top}px`;
  root.parentElement?.append(picture); // beside the body: its children are the rows
  picture.style.top = `${top + root.offsetTop}px`;
  picture.animate(GO, LEAVE).finished
    .finally(() => picture.remove()).catch(() => {});
}

/** Which cell shows which field. @type {[keyof Row, string][]} */
const CELLS = [["login", ".login"], ["license", ".license"], ["clientId", ".client"], ["ipAddress", ".ip"]];

/** The last flash of a cell. @type {WeakMap<Element, Animation>} */
const flashes = new WeakMap();

/** @param {HTMLElement} element @param {Row} before @param {Row} after */
export function flash(element, before, after) {
  if (before === after) return;
  const isAnother = before.serverId !== after.serverId;
  for (const [field, name] of CELLS) {
    if (!isAnother && before[field] === after[field]) continue;
    const cell = element.querySelector(name);
    if (!cell) continue;
    flashes.get(cell)?.cancel();
    if (!isAnother) flashes.set(cell, cell.animate([{ backgroundColor: "var(--flash)" }, { backgroundColor: "transparent" }], FLASH));
  }
}
