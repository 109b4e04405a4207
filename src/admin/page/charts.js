// The bar of a token's life and the small charts of a route, drawn as SVG. Every one says its numbers in words too.
import { svg } from './tree.js';
import * as words from './words.js';

const percent = (share) => `${(100 * Math.min(1, Math.max(0, share))).toFixed(2)}%`;

const BAR = { y: 23, height: 12, rx: 3 };
/** A label at a mark that lies near an end stays within. */
const anchor = (share) => (share < 0.2 ? 'start' : share > 0.8 ? 'end' : 'middle');

/** As wide as the hatched end of the bar. */
export const rest = ({ start, end, until }) => svg('svg', { 'aria-hidden': 'true', height: 1, width: percent((end - until) / (end - start)) });

/** The life of a token from its issue to its end, with the renewal point, the margin and now. */
export function life(token, now, state) {
  const { start, end, renew, until } = token;
  const share = (at) => (at - start) / (end - start);
  const left = Math.max(0, (until - now) / 1000);
  const said = left > 0
    ? `${words.duration((now - start) / 1000)} of ${words.duration((end - start) / 1000)} have passed; `
      + `usable for another ${words.duration(left)}`
    : `over since ${words.clock(until, now)}`;
  const planned = renew ? `; renewal planned at ${words.clock(renew, now)}` : '';
  return svg('svg', {
    class: `life ${state}`,
    role: 'progressbar',
    'aria-label': `Life of token ${token.name}`,
    'aria-valuemin': 0,
    'aria-valuemax': Math.round((end - start) / 1000),
    'aria-valuenow': Math.round(Math.min(end - start, Math.max(0, now - start)) / 1000),
    'aria-valuetext': said + planned,
  },
  svg('rect', { class: 'track', ...BAR, width: '100%' }),
  svg('rect', { class: 'passed', ...BAR, width: percent(Math.min(share(now), share(until))) }),
  svg('rect', { class: 'margin', ...BAR, rx: 0, x: percent(share(until)), width: percent(1 - share(until)) }),
  svg('svg', { class: 'mark', x: percent(share(until)) }, svg('path', { class: 'until', d: 'M-.75 23H.75V42H-.75Z' })),
  renew && svg('svg', { class: 'mark', x: percent(share(renew)) },
    svg('path', { class: 'renew', d: 'M-5 16H5L0 22Z' }), svg('path', { class: 'renew-line', d: 'M0 22V35' }),
    svg('text', { y: 11, 'text-anchor': anchor(share(renew)) }, `renewal ${words.clock(renew, now)}`)),
  svg('svg', { class: 'mark', x: percent(share(now)) }, svg('path', { class: 'now', d: 'M-1.5 19H1.5V39H-1.5Z' })));
}

const HEIGHT = 44;
const sum = (numbers) => numbers.reduce((total, number) => total + (number ?? 0), 0);
/** The highest of them. */
export const most = (numbers) => numbers.reduce((found, number) => Math.max(found, number ?? 0), 0);

function frame(label, points, ...children) {
  return svg('svg', {
    class: 'chart', role: 'img', 'aria-label': label, viewBox: `0 0 ${points} ${HEIGHT}`, preserveAspectRatio: 'none',
  }, svg('path', { class: 'ground', d: `M0 ${HEIGHT - 0.5}H${points}` }), ...children);
}

/** Requests of each step, with those that failed on the ground. */
export function requests({ requests, failed }, step) {
  const top = most(requests) || 1;
  const bar = (numbers, name) => svg('path', {
    class: name,
    d: numbers.map((number, i) => {
      // One failure among a million is seen, too.
      const height = number > 0 ? Math.max(3, (number / top) * (HEIGHT - 1)) : 0;
      return height ? `M${i + 0.12} ${HEIGHT}v${(-height).toFixed(2)}h0.76V${HEIGHT}Z` : '';
    }).join(''),
  });
  const bad = sum(failed);
  const label = `Requests in the last 15 minutes: ${words.number(sum(requests))}, of which `
    + `${bad ? words.number(bad) : 'none'} failed; at most ${words.rate(top, step)}, `
    + `lately ${words.rate(requests.at(-1) ?? 0, step)}`;
  return frame(label, requests.length, bar(requests, 'bars'), bar(failed, 'bars-bad'));
}

/** A line through what is known; a point that has no neighbour is a dash. */
function line(numbers, top, name) {
  const y = (number) => (HEIGHT - 1.5 - (number / top) * (HEIGHT - 4)).toFixed(2);
  const known = (number) => number !== null && number !== undefined;
  const path = numbers.map((number, i) => {
    if (!known(number)) return '';
    const [before, after] = [known(numbers[i - 1]), known(numbers[i + 1])];
    if (!before && !after) return `M${i + 0.1} ${y(number)}h0.8`;
    return `${before ? 'L' : 'M'}${i + 0.5} ${y(number)}`;
  }).join('');
  return svg('path', { class: name, d: path });
}

/** The median and the slowest hundredth. */
export function latency({ p50, p99 }, now) {
  const top = most(p99) || most(p50) || 1;
  const label = `Latency in the last 15 minutes: half of the requests ${words.within(now?.p50)}, `
    + `99 of 100 ${words.within(now?.p99)}; at worst 99 of 100 ${words.within(top)}`;
  return frame(label, p50.length, line(p99, top, 'line-slow'), line(p50, top, 'line'));
}

/** Open connections to the API. */
export function connections({ connections }) {
  const top = most(connections) || 1;
  const y = (number) => (HEIGHT - ((number ?? 0) / top) * (HEIGHT - 4)).toFixed(2);
  const steps = connections.map((number, i) => `${i ? 'V' : `M0 `}${y(number)}H${i + 1}`).join('');
  const label = `Connections to the API in the last 15 minutes: at most ${words.number(most(connections))}, `
    + `now ${words.number(connections.at(-1) ?? 0)}`;
  return frame(label, connections.length,
    svg('path', { class: 'area', d: `${steps}V${HEIGHT}H0Z` }), svg('path', { class: 'line', d: steps }));
}
