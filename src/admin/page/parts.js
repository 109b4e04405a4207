// The parts of the page, each made from what /status said. `now` is bearerd's clock, in milliseconds.
import * as charts from './charts.js';
import { el, prose, svg } from './tree.js';
import * as words from './words.js';

/** So many routes are shown; the busiest. */
const MOST_ROUTES = 50;
/** So many routes and tokens stand open; what is beyond is folded. */
const OPEN = 6;
/** So many answers of the provider, and refusals, stand open. */
const ROWS = 5;

const SHAPES = {
  ok: 'M3.5 8.5l3 3 6-7',
  asking: 'M8 4v4l3 2',
  warn: 'M8 4v5M8 11.2v.6',
  bad: 'M4.5 4.5l7 7M11.5 4.5l-7 7',
  none: 'M4.5 8h7',
};

/** A shape for how something is; the word beside it says the same. */
export const icon = (shape) => svg('svg', { class: 'icon', viewBox: '0 0 16 16', 'aria-hidden': 'true' },
  svg('circle', { cx: 8, cy: 8, r: 7.25 }), svg('path', { d: SHAPES[shape] }));

const pill = (level, shape, word) => el('span', { class: `pill ${level}` }, icon(shape), word);

function time(iso, now) {
  const at = Date.parse(iso);
  return Number.isNaN(at) ? '–' : el('time', { datetime: iso, title: iso }, words.clock(at, now));
}

const ago = (iso, now) => `${words.duration((now - Date.parse(iso)) / 1000)} ago`;

/** A fact; left out where it is not known. */
const fact = (name, ...values) => (values.flat().some((value) => value !== null && value !== undefined && value !== false)
  ? el('div', {}, el('dt', {}, name), el('dd', {}, ...values)) : null);

/** A table; its columns are `[heading, cell]`, and a cell may be null. */
function table(caption, columns, rows, className = '') {
  const present = columns.filter(([, cell]) => rows.some((row) => cell(row) !== null && cell(row) !== undefined));
  return el('table', { class: className },
    el('caption', {}, caption),
    el('thead', {}, el('tr', {}, present.map(([heading]) => el('th', { scope: 'col' }, heading)))),
    el('tbody', {}, rows.map((row) => el('tr', {}, present.map(([heading, cell], i) => {
      const value = cell(row) ?? '–';
      return i === 0 ? el('th', { scope: 'row' }, value) : el('td', { 'data-heading': heading }, value);
    })))));
}

/** The first rows, and the rest behind a fold. */
function long(caption, columns, rows, className) {
  if (rows.length <= ROWS) return table(caption, columns, rows, className);
  const rest = rows.slice(ROWS);
  return [
    table(caption, columns, rows.slice(0, ROWS), className),
    el('details', {}, el('summary', {}, `${rest.length} more`), table(`${caption}, before that`, columns, rest, className)),
  ];
}

const STATES = {
  fresh: ['ok', 'ok', 'Fresh'],
  stale: ['warn', 'warn', 'Stale'],
  expired: ['bad', 'bad', 'Expired'],
  none: ['note', 'none', 'None yet'],
};

const OUTCOMES = {
  granted: ['ok', 'ok', 'granted'],
  rejected: ['bad', 'bad', 'rejected'],
  limited: ['warn', 'warn', 'limited'],
  failed: ['bad', 'bad', 'failed'],
};

function credential({ name, in_use: inUse, rejected }, now) {
  const [level, shape, word] = rejected ? ['bad', 'bad', 'rejected'] : inUse ? ['ok', 'ok', 'in use'] : ['note', 'none', 'stands by'];
  return el('li', {},
    el('b', {}, name), ' ', pill(level, shape, word),
    rejected && el('span', { class: 'soft block' }, time(rejected.at, now), ': ', prose(rejected.what), inUse && '. Tried again all the same.'));
}

/** When the life of a token began, is to be renewed and ends, in milliseconds; null where there is none. */
function span(token) {
  const [start, renew, until] = [token.issued_at, token.renew_at, token.usable_until].map((at) => Date.parse(at));
  const end = start + token.life_seconds * 1000;
  if (!(end > start) || Number.isNaN(until)) return null;
  return { name: token.name, start, end, until: Math.min(until, end), renew: Number.isNaN(renew) ? null : renew };
}

/** What /status counted down to, `passed` seconds later. */
const later = (value, passed) => (value === null || value === undefined ? null : Math.max(0, value - passed));

function tokenCard(token, now, passed) {
  // Between the planned moment and the answer a token is stale, and nothing is wrong.
  const onTime = token.state === 'stale' && token.asking && !token.failures;
  const known = token.state === 'none' && token.failures > 0 ? ['bad', 'bad', 'None'] : STATES[token.state] ?? STATES.none;
  const [level, shape, word] = onTime ? ['asking', 'asking', 'Stale, being renewed'] : known;
  const left = later(token.usable_for_seconds, passed);
  const due = later(token.next_attempt_in_seconds, passed);
  const life = span(token);
  const { budget, answers, credentials = [] } = token;
  const atOnce = due !== null && due < 1 ? 'now' : due !== null && `in ${words.duration(due)}`;
  return el('article', { class: 'card token', 'data-key': `token ${token.name}`, 'aria-label': `Token ${token.name}` },
    el('div', { class: 'title' },
      el('h3', {}, token.name), pill(level, shape, word), token.asking && !onTime && pill('asking', 'asking', 'asking the provider'),
      token.required === false && el('span', { class: 'soft' }, 'not required'),
      el('p', { class: 'left' }, left > 0
        ? [el('b', {}, words.duration(left)), ' left'] : token.usable_until ? 'no time left' : 'no token in hand')),
    life && charts.life(life, now, onTime ? '' : token.state),
    life && el('div', { class: 'legend' },
      el('p', {}, 'issued ', time(token.issued_at, now)),
      // It ends where the hatched end begins.
      el('p', { class: 'until' }, life.until > now ? 'usable until ' : 'over since ', time(token.usable_until, now)), charts.rest(life)),
    el('div', { class: 'columns' },
      el('dl', { class: 'facts' },
        fact('Asks next', token.asking ? 'now: a request is under way' : atOnce || 'when a request needs it',
          !token.asking && token.next_attempt_why && el('span', { class: 'soft block' }, token.next_attempt_why)),
        fact('Bought today', token.bought_today === undefined ? null : words.count(token.bought_today, 'token')),
        fact('Budget', budget && `${words.number(budget.left)} of ${words.number(budget.limit)} left per ${words.duration(budget.per_seconds)}`),
        fact('Failures in a row', token.failures > 0 && words.number(token.failures)),
        fact(credentials.length > 1 ? 'Credentials' : 'Credential',
          el('ul', { class: 'plain' }, credentials.map((one) => credential(one, now))))),
      el('div', { class: 'answers' }, answers?.length > 0
        ? long('Last answers of the provider', [
          ['When', ({ at }) => time(at, now)],
          ['Answer', ({ outcome }) => pill(...(OUTCOMES[outcome] ?? ['note', 'none', outcome]))],
          ['Credential', (answer) => answer.credential],
          ['Took', (answer) => words.seconds(answer.took_seconds)],
          ['What', ({ what, fingerprint, again }) => (again ? el('span', { class: 'soft' }, 'the same') : what ? prose(what) : null) ?? (fingerprint && el('span', { class: 'soft' }, `token ${fingerprint}`))],
        ], answers.map((answer, i) => ({ ...answer, again: answer.what && answer.what === answers[i - 1]?.what })))
        : el('p', { class: 'soft' }, token.last_error
          ? [`Last error, ${ago(token.last_error.at, now)}: `, prose(token.last_error.what)]
          : 'The provider has not answered yet.'))));
}

export function tokens(status, now, passed) {
  const all = status.tokens ?? [];
  if (all.length === 0) return el('p', { class: 'card soft' }, prose('No token is configured: requests pass as they are. A token stands under `tokens` in the configuration, and a route names it.'));
  const trouble = ({ state, failures }) => state !== 'fresh' || failures > 0;
  const sorted = all.length > OPEN ? [...all].sort((a, b) => trouble(b) - trouble(a)) : all;
  return folded(sorted.map((token) => tokenCard(token, now, passed)), 'token');
}

function folded(cards, what) {
  const rest = cards.slice(OPEN);
  return [
    ...cards.slice(0, OPEN),
    rest.length > 0 && el('details', { class: 'rest', 'data-key': `more ${what}` },
      el('summary', {}, words.count(rest.length, `more ${what}`)), rest),
  ];
}

/** A chart under its name and its figures. */
const tile = (name, peak, figure, aside, chart) => el('div', { class: 'tile' },
  el('h4', {}, name, peak && el('small', {}, `peak ${peak}`)),
  el('p', { class: 'figure' }, figure), el('p', { class: 'soft' }, aside), chart);

function reasons(counted, configuration) {
  const sorted = Object.entries(counted ?? {}).sort(([, a], [, b]) => b - a);
  return sorted.length > 0 && el('ul', { class: 'reasons' }, sorted.map(([word, times]) => el('li', { 'data-key': word },
    el('b', {}, `${words.number(times)} × `, el('code', {}, word)), ' ', prose(words.reason(word, configuration)))));
}

function routeCard(route, status, step) {
  const { name, upstream, token, requests, failed = 0, history, latency_seconds: latency } = route;
  const statuses = Object.entries(route.statuses ?? {}).filter(([, times]) => times > 0)
    .map(([word, times]) => `${words.number(times)} × ${word}`).join(', ');
  const open = route.upstream_connections ?? 0;
  const busy = [route.in_flight > 0 && `${words.number(route.in_flight)} in flight`, route.queued > 0 && `${words.number(route.queued)} queued`];
  return el('article', { class: 'card route', 'data-key': `route ${name}`, 'aria-label': `Route ${name}` },
    el('div', { class: 'title' },
      el('h3', {}, name), el('p', { class: 'soft' }, 'to ', el('b', {}, upstream), token ? [' with token ', el('b', {}, token)] : ', without a token')),
    requests === 0
      ? el('p', { class: 'soft empty' }, prose(`No request has come yet. Try: \`${words.trial(route, status.listeners)}\``))
      : el('div', { class: 'tiles' },
        tile('Requests', history && words.rate(charts.most(history.requests), step), words.number(requests),
          [failed > 0 ? el('span', { class: 'bad' }, `${words.number(failed)} failed`) : 'none failed', statuses && ` · ${statuses}`],
          history && charts.requests(history, step)),
        tile('Latency', history && charts.most(history.p99) > 0 && words.seconds(charts.most(history.p99)), latency ? [words.seconds(latency.p50), el('small', {}, ' median')] : '–',
          latency ? [`p90 ${words.seconds(latency.p90)} · `, el('span', { class: 'slow' }, `p99 ${words.seconds(latency.p99)}`)] : 'nothing in the last 15 minutes',
          history && charts.latency(history, latency)),
        tile('Connections', history && words.number(charts.most(history.connections)), words.number(open), busy.filter(Boolean).join(' · ') || 'none in flight',
          history && charts.connections(history))),
    reasons(route.reasons, status.configuration));
}

export function routes(status) {
  const all = status.routes ?? [];
  const step = status.history?.step_seconds ?? 15;
  if (all.length === 0) return el('p', { class: 'card soft' }, prose('No route is configured. One is an entry under `routes`, with its `upstream`.'));
  const busiest = all.length > OPEN ? [...all].sort((a, b) => lately(b) - lately(a) || b.requests - a.requests) : all;
  return [
    all.length > MOST_ROUTES && el('p', { class: 'soft' },
      `Here are the busiest ${MOST_ROUTES} of ${words.number(all.length)} routes; all stand in `, el('a', { href: 'status' }, '/status'), '.'),
    folded(busiest.slice(0, MOST_ROUTES).map((route) => routeCard(route, status, step)), 'route'),
  ];
}

/** Requests in the window; what fails counts more, so that it is not folded. */
const lately = ({ history }) => ['requests', 'failed']
  .reduce((total, name, i) => total + (history?.[name] ?? []).reduce((sum, one) => sum + one, 0) * (i ? 1e6 : 1), 0);

export function refused(status, now) {
  const { totals = {}, last = [] } = status.refused ?? {};
  const sorted = Object.entries(totals).filter(([, times]) => times > 0).sort(([, a], [, b]) => b - a);
  if (sorted.length === 0) {
    const since = status.uptime_seconds === undefined ? '' : `, ${words.duration(status.uptime_seconds)} ago`;
    return el('p', { class: 'card soft' }, `Nothing was refused and nothing failed since the start${since}.`);
  }
  return el('div', { class: 'card stack' },
    table('How often, since the start', [
      ['Reason', ([word]) => el('code', {}, word)],
      ['Times', ([, times]) => words.number(times)],
      ['What it means, and what to do', ([word]) => prose(words.reason(word, status.configuration))],
    ], sorted, 'totals'),
    last.length > 0 && long('The last ones', [
      ['When', ({ at }) => time(at, now)],
      ['Reason', ({ reason }) => el('code', {}, reason)],
      ['Where', ({ route, listener }) => route ?? listener],
      ['What', ({ what, times }) => [prose(what ?? ''), times > 1 ? el('span', { class: 'soft' }, ` ${words.number(times)} times`) : null]],
    ], last, 'last'));
}

const RELOADS = {
  applied: ['ok', 'ok', 'applied'],
  unchanged: ['ok', 'ok', 'nothing had changed'],
  refused: ['warn', 'warn', 'refused, the one before serves'],
  waiting: ['warn', 'asking', 'waiting, the one before serves'],
};

export function configuration(status, now) {
  const { origin, loaded_at: loaded, last_reload: reload } = status.configuration ?? {};
  const ready = words.readiness(status);
  return el('dl', { class: 'card facts wide' },
    fact('Running', status.uptime_seconds !== undefined && ['for ', words.duration(status.uptime_seconds)],
      status.started_at && el('span', { class: 'soft block' }, 'since ', time(status.started_at, now))),
    fact('Ready', status.ready ? 'yes' : 'no', ready && el('span', { class: 'soft block' }, ready)),
    fact('Configuration', origin, loaded && el('span', { class: 'soft block' }, 'loaded ', time(loaded, now))),
    fact('Last reload', status.configuration && (reload
      ? [pill(...(RELOADS[reload.outcome] ?? ['note', 'none', reload.outcome])), el('span', { class: 'soft block' }, time(reload.at, now), reload.why && [': ', prose(reload.why)])]
      : 'none since the start')));
}
