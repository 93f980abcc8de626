// Line icons of 16 by 16, drawn in the colour of the text beside them.
import { html } from "../html.js";

/** @type {Record<string, string>} */
const paths = {
  search: "M7 12A5 5 0 1 0 7 2a5 5 0 0 0 0 10ZM10.7 10.7 14 14",
  close: "m4 4 8 8M12 4l-8 8",
  down: "m4 6 4 4 4-4",
  left: "m10 3-5 5 5 5",
  right: "m6 3 5 5-5 5",
  copy: "M6 6h7v7H6zM10 6V3H3v7h3",
  check: "m3 8.5 3.2 3.2L13 5",
  cut: "M8 2v6M4.6 4.2a5 5 0 1 0 6.8 0",
  alert: "M8 5.5v3M8 11h.01M8 1.8 1.5 13.5h13z",
  offline: "M2 2l12 12M4.5 8.5A5 5 0 0 1 6 7.5M2.4 6.2A8 8 0 0 1 4.3 5M8 4c2.2 0 4.2.8 5.6 2.2M9.6 7.3a5 5 0 0 1 1.9 1.2M8 12h.01",
  plug: "M6 2v3M10 2v3M4.5 5h7v2.5a3.5 3.5 0 0 1-7 0zM8 11v3",
  live: "M2 8h2.5L6.5 3l3 10 2-5H14",
  clock: "M8 14A6 6 0 1 0 8 2a6 6 0 0 0 0 12ZM8 5v3.2l2 1.3",
  list: "M5.5 4H14M5.5 8H14M5.5 12H14M2.2 4h.01M2.2 8h.01M2.2 12h.01",
  key: "M10 9.5A3.5 3.5 0 1 0 7 4L2 9v3h3v-1.5h1.5V9h1.2",
  help: "M8 14A6 6 0 1 0 8 2a6 6 0 0 0 0 12ZM6.3 6.3a1.7 1.7 0 1 1 2.5 1.5c-.5.3-.8.6-.8 1.2M8 11.2h.01",
  out: "M6 2H3v12h3M10 5l3 3-3 3M13 8H6",
};

/** @param {{name: string}} props */
export const Icon = ({ name }) => html`
  <svg class="icon" viewBox="0 0 16 16" width="16" height="16" aria-hidden="true" focusable="false">
    <path d=${paths[name]} fill="none" stroke="currentColor" stroke-width="1.5" stroke-linecap="round" stroke-linejoin="round" />
  </svg>
`;

/** The mark of the product: a list of who is there. */
export const Mark = () => html`
  <svg class="mark" viewBox="0 0 32 32" width="28" height="28" aria-hidden="true" focusable="false">
    <rect width="32" height="32" rx="8" />
    <g><circle cx="9" cy="10" r="2.5" /><rect x="14" y="8.5" width="11" height="3" rx="1.5" />
    <circle cx="9" cy="16" r="2.5" opacity=".75" /><rect x="14" y="14.5" width="8" height="3" rx="1.5" opacity=".75" />
    <circle cx="9" cy="22" r="2.5" opacity=".5" /><rect x="14" y="20.5" width="10" height="3" rx="1.5" opacity=".5" /></g>
  </svg>
`;
