// The time, once a second, for everything that is told relative to it. Hidden pages stand still.
import { signal } from "../html.js";

export const now = signal(Date.now());

let timer = /** @type {ReturnType<typeof setTimeout> | undefined} */ (undefined);

function tick() {
  now.value = Date.now();
  clearTimeout(timer);
  if (!document.hidden) timer = setTimeout(tick, 1000 - (Date.now() % 1000));
}

document.addEventListener("visibilitychange", tick);
tick();
