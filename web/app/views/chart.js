// The last hour: how many were live, and how many came and went each minute.
import { html, useComputed, useEffect, useLayoutEffect, useRef } from "../html.js";
import { now } from "../state/clock.js";
import { view } from "../state/live.js";
import { failed, series } from "../state/series.js";
import { clock, count } from "../text/format.js";
import uPlot from "../../vendor/uplot.js";

/** @typedef {import("../state/series.js").SeriesPoint} Point */
/** @typedef {[number[], number[], (number | null)[], (number | null)[]]} Columns times in seconds, live, connects, ends below zero; none = null */

const HEIGHT = 132;

export function Chart() {
  const points = series.value;
  const last = points?.at(-1);
  return html`
    <section class="card chart" aria-label="The last hour">
      <div class="legend">
        <h2>Last hour</h2>
        <span class="key live">Live${last && html` <b>${count(view.value?.total ?? last.live)}</b>`}</span>
        <span class="key connects">Connects this minute${last && html` <b>${count(last.connects)}</b>`}</span>
        <span class="key ends">Ends${last && html` <b>${count(last.ends)}</b>`}</span>
      </div>
      ${points ? html`<${Plot} points=${points} />` : html`<div class="plot-space">${failed.value && html`<p class="quiet">The last hour could not be read.</p>`}</div>`}
    </section>
  `;
}

/** @param {Point[]} points @returns {Columns} */
const columns = points => [
  points.map(point => Date.parse(point.time) / 1000), points.map(point => point.live),
  points.map(point => point.connects || null), points.map(point => -point.ends || null),
];

/** @param {{points: Point[]}} props */
function Plot({ points }) {
  const space = useRef(/** @type {HTMLElement | null} */ (null));
  const tip = useRef(/** @type {HTMLElement | null} */ (null));
  const plot = useRef(/** @type {uPlot | null} */ (null));
  const data = columns(points);
  const second = now.value;
  data[1][points.length - 1] = view.value?.total ?? data[1][points.length - 1]; // the running minute, as it is now
  const latest = useRef(data);
  latest.current = data;
  const summary = useComputed(() => describe(series.value ?? []));

  useLayoutEffect(() => {
    const root = /** @type {HTMLElement} */ (space.current);
    const make = () => {
      plot.current?.destroy();
      plot.current = new uPlot(options(root, tip.current), /** @type {any} */ (latest.current), root);
    };
    make();
    const resized = new ResizeObserver(() => plot.current?.setSize({ width: root.clientWidth, height: HEIGHT }));
    resized.observe(root);
    const theme = matchMedia("(prefers-color-scheme: dark)");
    theme.addEventListener("change", make);
    return () => {
      resized.disconnect();
      theme.removeEventListener("change", make);
      plot.current?.destroy();
      plot.current = null;
    };
  }, []);
  useEffect(() => plot.current?.setData(/** @type {any} */ (data)), [points, second]);
  return html`
    <div class="plot-space" role="img" aria-label=${summary}>
      <div ref=${space}></div>
      <div class="tip" ref=${tip} hidden></div>
    </div>
  `;
}

/** @param {Point[]} points */
function describe(points) {
  if (points.length === 0) return "No data";
  const live = points.map(point => point.live);
  const sum = (/** @type {"connects" | "ends"} */ what) => points.reduce((total, point) => total + point[what], 0);
  return `Live sessions in the last hour: now ${count(live.at(-1) ?? 0)}, at least ${count(Math.min(...live))}, at most ${count(Math.max(...live))}; ` +
    `${count(sum("connects"))} connected and ${count(sum("ends"))} ended.`;
}

/** @param {HTMLElement} root @param {HTMLElement | null} tip @returns {uPlot.Options} */
function options(root, tip) {
  const style = getComputedStyle(root);
  const color = (/** @type {string} */ name) => style.getPropertyValue(name).trim();
  const font = `11px ${style.fontFamily}`;
  const axis = { stroke: color("--muted"), font, ticks: { show: false }, grid: { stroke: color("--line"), width: 1 } };
  const bars = /** @type {any} */ (uPlot.paths.bars)({ size: [0.55, 12], radius: 0.2 });
  return {
    width: root.clientWidth, height: HEIGHT, padding: [8, 20, 0, 4], legend: { show: false },
    cursor: { y: false, points: { size: 7 }, drag: { x: false, y: false } },
    scales: {
      x: { time: true },
      y: { range: (_, low, high) => spread(low, high) },
      // Comings and goings have the lower part of the picture.
      minute: { range: (_, low, high) => [-most(low, high) * 1.15, most(low, high) * 3.5] },
    },
    axes: [
      { ...axis, grid: { show: false }, size: 24, space: 70, values: (_, ticks) => ticks.map(clock) },
      { ...axis, scale: "y", size: 44, space: 36, values: (_, ticks) => ticks.map(n => (Number.isInteger(n) && n >= 0 ? count(n) : "")) },
    ],
    series: [
      {},
      { scale: "y", stroke: color("--accent"), width: 2, fill: color("--accent-fill"), points: { show: false } },
      { scale: "minute", stroke: color("--connects"), fill: color("--connects"), width: 0, paths: bars, points: { show: false } },
      { scale: "minute", stroke: color("--ends"), fill: color("--ends"), width: 0, paths: bars, points: { show: false } },
    ],
    hooks: { setCursor: [plot => show(plot, tip)] },
  };
}

/** @param {number} low @param {number} high */
const most = (low, high) => Math.max(1, Math.abs(low ?? 0), Math.abs(high ?? 0));

/** Room below the line, for the bars; whole numbers, however few there are. @param {number} low @param {number} high @returns {[number, number]} */
function spread(low, high) {
  const top = Math.max(4, high ?? 0), bottom = Math.max(0, (low ?? 0) - (top - (low ?? 0)) * 0.25);
  const room = Math.max(2, (top - bottom) * 0.15);
  return [Math.max(0, bottom - room * 2), top + room];
}

/** @param {uPlot} plot @param {HTMLElement | null} tip */
function show(plot, tip) {
  const { idx, left = -1 } = plot.cursor;
  if (!tip) return;
  tip.hidden = idx === null || idx === undefined || left < 0;
  if (tip.hidden || idx === null || idx === undefined) return;
  const [times, live, connects, ends] = /** @type {Columns} */ (/** @type {unknown} */ (plot.data));
  tip.textContent = `${clock(times[idx])}  ·  ${count(live[idx])} live  ·  +${count(connects[idx] ?? 0)}  −${count(-(ends[idx] ?? 0))}`;
  const width = tip.offsetWidth, room = plot.root.clientWidth;
  tip.style.left = `${Math.min(Math.max(left + 44 - width / 2, 0), room - width)}px`;
}
