// The sentence at the top, tried without a browser: one lively fixture, and what is changed in it.
import { readFileSync } from 'node:fs';
import { reason, readiness, seconds, trial, verdict, within } from '../../src/admin/page/words.js';
import { check } from '../oidc-provider/rig.mjs';

export const lively = () => JSON.parse(readFileSync(new URL('fixtures/lively.json', import.meta.url), 'utf8'));

const AT = '2026-11-21T02:13:00Z';
const REFUSED = 'the token endpoint answered 401 and the error `invalid_client`';
const fails = (token, what, more = {}) => Object.assign(token, { failures: 3, last_error: { at: AT, what }, next_attempt_in_seconds: 14, ...more });
const stale = { state: 'stale', usable_until: '2026-11-21T02:17:14Z', usable_for_seconds: 250 };
const expired = { state: 'expired', usable_until: '2026-11-21T02:10:00Z', usable_for_seconds: null };
const none = { state: 'none', usable_until: null, usable_for_seconds: null, issued_at: null, life_seconds: null, renew_at: null };
const UNREACHABLE = 'the token endpoint cannot be reached: connection refused';
const failing = (route, from, count) => { for (let i = 60 - from; i < 60; i += 1) route.history.failed[i] = count(route.history.requests[i]); };

/** What is changed, the level, the sentence, and what else is there: a part of the advice and of `also`, or all of it. */
const CASES = [
  ['nothing', () => {}, 'ok', 'Both tokens are fresh.', 'The next renewal is that of `orders`, at 02:31:55'],
  ['one token', (s) => { s.tokens.pop(); }, 'ok', 'Token `orders` is fresh.', 'Nothing to do'],
  ['no token', (s) => { s.tokens = []; }, 'ok', 'bearerd works. No token is configured.', ''],
  ['a renewal under way', ({ tokens: [orders] }) => { orders.asking = true; }, 'ok',
    'All tokens are usable; `orders` is being renewed.', 'Nothing to do'],
  ['a first token under way', ({ tokens: [orders] }) => { Object.assign(orders, none, { asking: true }); }, 'note',
    'Token `orders` is being fetched. Requests that need it wait.', ''],
  ['not asked for yet', ({ tokens: [orders] }) => { Object.assign(orders, none); }, 'note',
    'Token `orders` has not been asked for yet.', 'fetches one'],
  ['an idle one expired', ({ tokens: [orders] }) => { Object.assign(orders, expired, { next_attempt_in_seconds: null }); }, 'note',
    'Token `orders` has expired, and nobody has asked for it since.', 'fetches one'],
  ['stale in an outage', ({ tokens: [orders] }) => { fails(orders, UNREACHABLE, stale); }, 'warn',
    'Token `orders` cannot be renewed: the provider does not answer. Requests keep working until 02:17:14.',
    'The token endpoint cannot be reached: connection refused. See whether the provider is up'],
  ['expired in an outage', ({ tokens: [orders] }) => { fails(orders, UNREACHABLE, expired); }, 'bad',
    'Token `orders` has expired and there is no new one: the provider does not answer. Requests that need it get 503.',
    'bearerd asks again at 02:13:18.'],
  ['no first token', ({ tokens: [orders] }) => { fails(orders, 'discovery at https://id.example failed: connection refused', none); }, 'bad',
    'Token `orders` could not be fetched yet: the provider does not answer. Requests that need it get 503.', 'bearerd doctor'],
  ['a provider that fails itself', ({ tokens: [orders] }) => { fails(orders, 'the token endpoint answered 500 Internal Server Error', stale); }, 'warn',
    'Token `orders` cannot be renewed: the provider is in trouble and answers 500. Requests keep working until 02:17:14.',
    /^The token endpoint answered 500 Internal Server Error\. The provider was reached and is in trouble itself: (?!.*(doctor|from here))/],
  ['a discovery that fails itself', ({ tokens: [orders] }) => {
    fails(orders, 'discovery at https://id.example/.well-known/openid-configuration failed: the answer is 503 Service Unavailable', none);
  }, 'bad', 'Token `orders` could not be fetched yet: the provider is in trouble and answers 503. Requests that need it get 503.',
  'is in trouble itself'],
  ['a discovery of another issuer', ({ tokens: [orders] }) => {
    fails(orders, 'discovery at https://id.example failed: the document is of another issuer', none);
  }, 'bad', 'Token `orders` could not be fetched yet: the provider’s discovery document is not usable. Requests that need it get 503.',
  'See whether the configuration is what'],
  ['an answer that is no token', ({ tokens: [orders] }) => { fails(orders, "the token endpoint's answer is not a JSON object", stale); }, 'warn',
    'Token `orders` cannot be renewed: the provider’s answer is no token. Requests keep working until 02:17:14.',
    /^The token endpoint's answer is not a JSON object\. See whether the configuration (?!.*from here)/],
  ['a secret that is gone', ({ tokens: [orders] }) => { fails(orders, 'the secret cannot be read: /run/x: not found', stale); }, 'warn',
    'Token `orders` cannot be renewed: its secret cannot be read. Requests keep working until 02:17:14.', 'Put the secret'],
  ['limited', ({ tokens: [orders] }) => {
    fails(orders, 'the token endpoint answered 429', stale);
    orders.answers.unshift({ at: AT, outcome: 'limited', credential: 'orders-app', took_seconds: 0.1, what: null, fingerprint: null });
  }, 'warn', 'Token `orders` cannot be renewed: the provider asks to be left alone for a while. Requests keep working until 02:17:14.', 'Wait'],
  ['the standby in use', ({ tokens: [{ credentials: [first, second] }] }) => {
    Object.assign(first, { in_use: false, rejected: { at: AT, what: REFUSED } });
    second.in_use = true;
  }, 'warn', 'The provider rejected the credential `orders-app` of token `orders`; the standby `orders-app-2` is in use, and requests work.',
  'Compare client_id and secret'],
  ['all rejected', ({ tokens: [orders] }) => {
    fails(orders, REFUSED, stale);
    for (const credential of orders.credentials) credential.rejected = { at: AT, what: REFUSED };
  }, 'warn', 'The provider rejects every credential of token `orders`. Requests keep working until 02:17:14.', 'Compare'],
  ['the only one rejected', ({ tokens: [, billing] }) => {
    fails(billing, REFUSED, none);
    billing.credentials[0].rejected = { at: AT, what: REFUSED };
  }, 'bad', 'The provider rejects the credential `billing-app` of token `billing`, and none stands by. Requests that need it get 503.',
  'The token endpoint answered 401'],
  ['a spent budget', ({ tokens: [orders] }) => { Object.assign(orders, stale, { budget: { limit: 60, per_seconds: 3600, left: 0 } }); }, 'warn',
    'Token `orders` should be renewed, but its budget is spent. Requests keep working until 02:17:14.', 'raise `budget`'],
  ['an API that is down', ({ routes: [orders], refused }) => {
    failing(orders, 8, (requests) => requests);
    refused.last.unshift({ at: AT, reason: 'upstream_refused', route: 'orders', listener: null, what: '', times: 5 });
  }, 'bad', 'All requests of route `orders` failed in the last two minutes (`upstream_refused`).', 'The API took no connection'],
  ['an API that is slow at times', ({ routes: [orders] }) => { failing(orders, 8, (requests) => Math.ceil(requests / 10)); }, 'warn',
    'Some requests of route `orders` failed in the last two minutes (`upstream_timeout`).', 'The API took longer'],
  ['one failure in a thousand', ({ routes: [orders] }) => { orders.history.failed[59] = 1; }, 'ok',
    'Both tokens are fresh.', 'Some requests of route `orders` failed'],
  ['no token for a route', ({ tokens: [orders], routes: [route], refused }) => {
    fails(orders, UNREACHABLE, expired);
    failing(route, 8, (requests) => requests);
    refused.last.unshift({ at: AT, reason: 'no_token', route: 'orders', listener: null, what: '', times: 5 });
  }, 'bad', 'Token `orders` has expired and there is no new one: the provider does not answer. Requests that need it get 503.', ''],
  ['two troubles', ({ tokens: [orders, billing] }) => { fails(orders, UNREACHABLE, stale); fails(billing, UNREACHABLE, expired); }, 'bad',
    'Token `billing` has expired and there is no new one: the provider does not answer. Requests that need it get 503.',
    'Token `orders` cannot be renewed'],
  ['a refused reload', ({ configuration }) => { configuration.last_reload = { at: AT, outcome: 'refused', why: 'line 3: unknown key `rotues`' }; },
    'warn', 'The changed configuration was refused; the one before keeps serving.', 'line 3: unknown key `rotues`. `bearerd check`'],
  ['a refused reload with two faults', ({ configuration }) => { configuration.last_reload = { at: AT, outcome: 'refused', why: 'line 3: a\nline 4: b' }; },
    'warn', 'The changed configuration was refused; the one before keeps serving.', 'line 3: a. line 4: b. `bearerd check` tells'],
  ['a refused reload of another file', ({ configuration }) => {
    Object.assign(configuration, { origin: '/srv/my app/b.yaml', last_reload: { at: AT, outcome: 'refused', why: 'line 3: a' } });
  }, 'warn', 'The changed configuration was refused; the one before keeps serving.', "line 3: a. `bearerd check --config '/srv/my app/b.yaml'` tells"],
  ['a reload that needs a restart', ({ configuration }) => {
    const why = ['`listen`', '`workers`'].map((key) => `${key} cannot change while bearerd runs; restart it to have that, or put the old back`).join('\n');
    configuration.last_reload = { at: AT, outcome: 'refused', why };
  }, 'warn', 'The changed configuration was refused: it needs a restart. The one before keeps serving.',
  /^`listen` cannot change while bearerd runs\. `workers` cannot change while bearerd runs\. Restart bearerd for it, or take the change back\.$/],
  ['a reload that needs a new authority', ({ configuration }) => {
    const why = 'intercept: the local authority is for other hosts; restart bearerd, and then the apps';
    configuration.last_reload = { at: AT, outcome: 'refused', why };
  }, 'warn', 'The changed configuration was refused: it needs a restart. The one before keeps serving.', 'Restart bearerd'],
  ['a reload that waits', ({ configuration }) => {
    const why = 'it waits for the first token of `crm` (the token endpoint answered 401 Unauthorized (invalid_client))';
    Object.assign(configuration, { origin: 'here.yaml', last_reload: { at: AT, outcome: 'waiting', why } });
  }, 'warn', 'A change of the configuration waits for a token; the one before serves.',
  /^It waits for the first token of `crm` \(.*401.*\)\. Once it comes, .*`bearerd doctor --config here\.yaml`.* take it back\.$/],
  ['an outage, with another file', ({ tokens: [orders], configuration }) => {
    fails(orders, UNREACHABLE, stale);
    configuration.origin = '/srv/b.yaml';
  }, 'warn', 'Token `orders` cannot be renewed: the provider does not answer. Requests keep working until 02:17:14.', '`bearerd doctor --config /srv/b.yaml`'],
  ['an outage, without a file', ({ tokens: [orders], configuration }) => {
    fails(orders, UNREACHABLE, stale);
    configuration.origin = 'flags and environment';
  }, 'warn', 'Token `orders` cannot be renewed: the provider does not answer. Requests keep working until 02:17:14.', '`bearerd doctor` goes'],
  ['somebody turned away', ({ refused }) => { refused.last.unshift({ at: AT, reason: 'web_origin', route: null, listener: null, what: '', times: 1 }); },
    'ok', 'Both tokens are fresh.', 'Turned away in the last five minutes: `web_origin`.'],
  ['draining', (s) => { s.phase = 'draining'; }, 'note',
    'bearerd is shutting down. It finishes what is in flight and takes nothing new.', 'who sent the signal'],
  ['draining in trouble', (s) => { s.phase = 'lame_duck'; fails(s.tokens[0], UNREACHABLE, expired); }, 'note',
    'bearerd is shutting down. It still takes requests.', 'Token `orders` has expired and there is no new one'],
];

export function verdicts() {
  for (const [name, change, level, sentence, more] of CASES) {
    const status = lively();
    change(status);
    const found = verdict(status, null);
    const rest = [found.todo, ...found.also.map((one) => `${one.sentence} ${one.todo}`)].join('\n');
    const good = found.level === level && found.sentence === sentence && (more.test ? more.test(rest) : rest.includes(more));
    check(`verdict, ${name}`, good, JSON.stringify(found, null, 1));
  }
  const bare = verdict({ tokens: [{ name: 'a', state: 'fresh' }], routes: [{ name: 'r', requests: 0 }] }, null);
  check('verdict, an older bearerd', bare.sentence === 'Token `a` is fresh.', JSON.stringify(bare));
  const tls = reason('upstream_tls', { origin: '/srv/b.yaml' });
  check('a reason names the configuration, too', tls.includes('`bearerd doctor --config /srv/b.yaml`'), tls);
  for (const [value, figure, bound] of [
    [null, '–', 'within –'], [0, 'under 1 ms', 'in under 1 ms'], [0.0004, 'under 1 ms', 'in under 1 ms'], [0.0012, '1.2 ms', 'within 1.2 ms'], [0.25, '250 ms', 'within 250 ms'],
  ]) check(`${value} seconds are ${figure}`, seconds(value) === figure && within(value) === bound, `${seconds(value)}, ${within(value)}`);
  for (const [said, change] of [
    ['every required token has been held once', {}], ['waits for a and b', { ready: false, waiting_for: ['a', 'b'] }],
    ['bearerd is shutting down', { ready: false, phase: 'draining' }], [null, { tokens: [] }],
  ]) {
    const found = readiness({ ...lively(), ...change });
    check(`ready means ${said}`, found === said, found);
  }
  for (const [match, listener, line] of [
    [undefined, undefined, 'curl -i http://localhost:4280/'],
    [{ path: '/v2' }, { name: 'a', address: '127.0.0.1:4280' }, 'curl -i http://127.0.0.1:4280/v2/'],
    [{ host: 'billing.internal' }, { name: 'a', address: '[::1]:4280', tls: true }, "curl -i -H 'Host: billing.internal' https://[::1]:4280/"],
    [{ path: "/it's" }, { name: 'a', address: 'unix:/run/a.sock' }, "curl -i --unix-socket /run/a.sock 'http://localhost/it'\\''s/'"],
  ]) {
    const made = trial({ match }, listener && [listener]);
    check(`the line to try is ${line}`, made === line, made);
  }
  const lost = { since: Date.parse(AT), why: 'it cannot be reached' };
  check('verdict, gone', verdict(lively(), lost, Date.parse(AT)).sentence.startsWith('bearerd has not answered since 02:13:00.'),
    JSON.stringify(verdict(lively(), lost, Date.parse(AT))));
}
