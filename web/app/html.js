// The one place where templates meet Preact: html`<p>${text}</p>`. A value between ${} is text or a component, never markup.
import { h } from "../vendor/preact.js";
import htm from "../vendor/htm.js";

/** @typedef {import("preact").ComponentChildren} Children */

export const html = htm.bind(h);
export { render } from "../vendor/preact.js";
export { useEffect, useId, useLayoutEffect, useMemo, useRef, useState } from "../vendor/hooks.js";
export { batch, computed, effect, signal, untracked, useComputed, useSignal } from "../vendor/signals.js";
