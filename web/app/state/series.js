// The last hour of an application, minute by minute; asked for again while somebody looks.
import { effect, signal } from "../html.js";
import { account, canRead } from "./account.js";
import { asked, manage } from "./api.js";
import { current } from "./applications.js";
import { view } from "./route.js";

/** @typedef {import("../client.js").SeriesPoint} SeriesPoint */

export const series = signal(/** @type {SeriesPoint[] | null} */ (null));
export const failed = signal(false);

const EVERY = 5000;

effect(() => {
  const id = current.value?.id;
  series.value = null;
  failed.value = false;
  if (!id || !account.value || !canRead.value || view.value !== "live") return;
  const stop = new AbortController();
  let timer = /** @type {ReturnType<typeof setTimeout> | undefined} */ (undefined);
  const ask = async () => {
    clearTimeout(timer);
    if (!document.hidden) {
      try {
        series.value = (await asked(manage.series(id, { signal: stop.signal }))).items;
        failed.value = false;
      } catch {
        if (stop.signal.aborted) return;
        failed.value = true;
      }
    }
    if (!stop.signal.aborted) timer = setTimeout(ask, EVERY);
  };
  const shown = () => document.hidden || ask();
  document.addEventListener("visibilitychange", shown);
  void ask();
  return () => {
    stop.abort();
    clearTimeout(timer);
    document.removeEventListener("visibilitychange", shown);
  };
});
