// What cannot be seen in a text, named: it could make it look like another.

/** Controls of lines and of direction, and what has no width. */
const INVISIBLE = /([\u0000-\u001f\u007f-\u009f\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff])/u;

/** @param {string} text */
export function parts(text) {
  return text.split(INVISIBLE).map((part, i) => (i % 2 ? { code: codePoint(part) } : { part })).filter(({ part }) => part !== "");
}

/** @param {string} char */
const codePoint = char => `U+${/** @type {number} */ (char.codePointAt(0)).toString(16).toUpperCase().padStart(4, "0")}`;

/** The text with its invisible characters named, for where there can be no markup. @param {string} text */
export const plain = text => parts(text).map(({ part, code }) => part ?? `[${code}]`).join("");
