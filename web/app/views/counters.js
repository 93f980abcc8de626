// The four numbers that answer most questions.
import { html, useComputed } from "../html.js";
import { limits } from "../state/account.js";
import { view } from "../state/live.js";
import { count } from "../text/format.js";
import { Ago } from "../ui/time.js";

export function Counters() {
  const shown = useComputed(() => view.value);
  const { total = 0, filteredTotal = 0, authorizedSessionCount = 0, lastConnectionTime = 0, query } = shown.value ?? {};
  const most = limits.value?.authorizedSessions.maxValue ?? null;
  const plan = limits.value?.planName;
  return html`
    <dl class="counters">
      <div class="counter"><dt>Live</dt><dd data-counter="total">${count(total)}</dd></div>
      <div class="counter"><dt>Matching</dt>
        <dd data-counter="matching">${count(filteredTotal)}</dd>
        <dd class="under">${query?.search ? share(filteredTotal, total) : "no search"}</dd>
      </div>
      <div class="counter"><dt>Authorized</dt>
        <dd data-counter="authorized">${count(authorizedSessionCount)}${most !== null && html`<span class="of"> of ${count(most)}</span>`}</dd>
        ${most === null
          ? html`<dd class="under">${plan ? "no limit" : "in the organization"}</dd>`
          : html`<dd class="under"><meter min="0" max=${most} high=${most * 0.9} optimum="0" value=${authorizedSessionCount}
              aria-label="Authorized sessions of the plan's limit"></meter></dd>`}
      </div>
      <div class="counter"><dt>Last connection</dt>
        <dd class="time" data-counter="last">${lastConnectionTime ? html`<${Ago} at=${lastConnectionTime} />` : "never"}</dd>
      </div>
    </dl>
  `;
}

/** @param {number} part @param {number} all */
const share = (part, all) => (all ? `${new Intl.NumberFormat(undefined, { style: "percent", maximumSignificantDigits: 2 }).format(part / all)} of live` : "of none");
