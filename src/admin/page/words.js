// What the page says, made from the data alone: no document, no clock, so that it can be tried anywhere.

/** What each reason means, and what to do. */
export const REASONS = {
  bad_request: 'The app sent what is no proper HTTP, or a head that is too large: look at the app, and at `limits` if it is honest.',
  ambiguous_host: 'The request names two hosts, so nobody can tell where it should go: have the app send a Host that fits its URL.',
  bad_path: 'The path has dot segments, or bytes that servers read in different ways: have the app send it plain.',
  caller_unknown: 'Who called did not say who it is, or nobody let that user in: give the app its password, or add it to `callers.clients`.',
  app_tls: 'The TLS handshake of an app did not come to its end: see whether it trusts our certificate, and shows its own where one is asked for.',
  no_route: 'No route leads there: correct the app’s URL, or add a route (for CONNECT one with `intercept`, or a `tunnel`).',
  not_allowed: 'The `allow` or `callers` of the route do not let this through: widen them, if the request is an honest one.',
  web_origin: 'A page in somebody’s browser tried to call: nothing to do, unless it is a page of yours; then name it in `callers.origins`.',
  own_credential: 'The app sent a credential of its own, which this route rejects (`authorization: reject`): take it out of the app.',
  host_not_ours: 'The request is for a name that is not ours, as after DNS rebinding: have the app say localhost, or add the name to `callers.hosts`.',
  no_token: 'There was no token to put on the request: the token’s card on this page says why.',
  overloaded: 'All places were taken and the queue was full: the API is slower than what is asked of it; see the `limits` of the route.',
  draining: 'bearerd was shutting down: the app should try again, elsewhere or later.',
  upstream_refused: 'The API took no connection: see whether it runs, and whether `upstream` names the right host and port.',
  upstream_reset: 'The API ended the connection before its answer was whole: look at the API, and at what lies on the way to it.',
  upstream_tls: 'TLS with the API failed: look at its certificate and at `tls` of the route; `bearerd doctor` says what is wrong.',
  upstream_dns: 'The API’s name has no address: look for a typo in `upstream`, and at this machine’s DNS.',
  bad_upstream: 'The API answered what is no proper HTTP: see whether `upstream` and `http` are what it speaks.',
  upstream_timeout: 'The API took longer than the route’s `timeouts` allow: look at the API, or give it more time.',
  loop: 'The upstream leads back to this bearerd: correct `upstream` or `connect_to`.',
  internal: 'A bug in bearerd: the log has a line about it; please report that.',
};

/** A reason that this page does not know is of a newer bearerd. */
export const reason = (word, configuration) => here(REASONS[word] ?? 'This page does not know the reason; the log says more.', configuration);

const whole = new Intl.NumberFormat('en');
const short = new Intl.NumberFormat('en', { notation: 'compact', maximumFractionDigits: 1 });

export const number = (value) => (value < 1e6 ? whole : short).format(value);
export const count = (value, one, many = `${one}s`) => `${number(value)} ${value === 1 ? one : many}`;
export const list = (names) => new Intl.ListFormat('en').format(names);

/** Seconds as a person says them. */
export function duration(value) {
  const s = Math.max(0, Math.floor(value));
  const [minutes, hours, days] = [Math.floor(s / 60), Math.floor(s / 3600), Math.floor(s / 86400)];
  const two = (a, unit, b, lesser) => (b ? `${a} ${unit} ${b} ${lesser}` : `${a} ${unit}`);
  if (s < 60) return `${s} s`;
  if (s < 600) return two(minutes, 'min', s % 60, 's');
  if (s < 3600) return `${minutes} min`;
  if (s < 86400) return two(hours, 'h', minutes % 60, 'min');
  return two(days, 'd', hours % 24, 'h');
}

/** A short time, as latencies are told. */
export function seconds(value) {
  if (value === null || value === undefined) return '–';
  if (value >= 10) return duration(value);
  if (value >= 1) return `${value.toFixed(2)} s`;
  if (value < 0.001) return 'under 1 ms';
  return value >= 0.01 ? `${Math.round(value * 1000)} ms` : `${(value * 1000).toFixed(1)} ms`;
}

/** The same as a bound. */
export const within = (value) => seconds(value).replace(/^(under )?/, (under) => (under ? 'in under ' : 'within '));

/** So many in a step of so many seconds. */
export function rate(value, step) {
  const each = value / step;
  if (each === 0) return 'none';
  return each < 1 ? `${number(Math.ceil(each * 60))} a minute` : `${number(Math.round(each))} a second`;
}

const CLOCK = { hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23' };

/** The time of day, with its date where that is not today's. Both in milliseconds. */
export function clock(at, now) {
  const [day, today] = [at, now].map((time) => new Date(time).toDateString());
  const date = day === today ? {} : { day: 'numeric', month: 'short' };
  return new Date(at).toLocaleString('en-GB', { ...date, ...CLOCK });
}

/** A word that a shell takes as it stands. */
const quoted = (word) => (/^[\w.:/@%+,=[\]-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`);

/** Where bearerd looks unless it is told. */
const USUAL = '/etc/bearerd/config.yaml';
/** Origins that are no file. */
const NO_FILES = ['flags and environment', 'as it was given'];

/** A text whose commands name the configuration that this bearerd has, where they would not find it. */
function here(text, { origin } = {}) {
  if (!origin || origin === USUAL || NO_FILES.includes(origin)) return text;
  return text.replace(/`bearerd (check|doctor)`/g, (line, command) => `\`bearerd ${command} --config ${quoted(origin)}\``);
}

/** A line to type that makes a first request of a route. */
export function trial({ match = {} }, listeners = []) {
  const at = listeners.find(({ name }) => name === match.listen) ?? listeners[0] ?? { address: 'localhost:4280' };
  const [, socket] = at.address.match(/^unix:(.*)/) ?? [];
  const url = `${at.tls ? 'https' : 'http'}://${socket ? 'localhost' : at.address}${match.path ?? ''}/`;
  return ['curl -i', socket && `--unix-socket ${quoted(socket)}`, match.host && `-H ${quoted(`Host: ${match.host}`)}`, quoted(url)]
    .filter(Boolean).join(' ');
}

const LEVELS = ['bad', 'warn', 'note', 'ok', 'aside'];
const RECENT = 5 * 60e3;
const sum = (numbers) => (numbers ?? []).reduce((total, one) => total + (one ?? 0), 0);
const named = (token) => `token \`${token.name}\``;
const Named = (token) => `Token \`${token.name}\``;

/** The provider was reached, and has failed itself. */
const IN_TROUBLE = /^(?:the token endpoint answered|discovery at \S+ failed: the answer is) (5\d\d)/;
/** It was not, as far as one can tell. */
const NO_ANSWER = /^the token endpoint (cannot be reached|did not answer)|^discovery at \S+ failed: (?!the answer|the document|it is no URL)/;

/** What went wrong with the last token request, as a part of a sentence. */
function why(token) {
  const what = token.last_error?.what ?? '';
  if (token.answers?.[0]?.outcome === 'limited') return 'the provider asks to be left alone for a while';
  const [, status] = what.match(IN_TROUBLE) ?? [];
  if (status) return `the provider is in trouble and answers ${status}`;
  if (NO_ANSWER.test(what)) return 'the provider does not answer';
  if (/^discovery at/.test(what)) return 'the provider’s discovery document is not usable';
  if (/^the secret cannot be read/.test(what)) return 'its secret cannot be read';
  if (/^no assertion can be signed/.test(what)) return 'its key does not sign';
  return 'the provider’s answer is no token';
}

/** The same to the letter, as a sentence. */
function exactly(what) {
  return what ? `${what[0].toUpperCase()}${what.slice(1).replace(/\.$/, '')}. ` : '';
}

function next(token, now) {
  const wait = token.next_attempt_in_seconds;
  if (wait === null || wait === undefined) return '';
  return ` bearerd asks again at ${clock(now + wait * 1000, now)}.`;
}

/** What to do about a provider that gives no token. */
function cure(token, now) {
  const { what = '' } = token.last_error ?? {};
  let todo = 'See whether the configuration is what the provider wants: `bearerd doctor` goes through it.';
  if (NO_ANSWER.test(what) || !what) todo = 'See whether the provider is up and can be reached from here: `bearerd doctor` goes through it.';
  if (IN_TROUBLE.test(what)) todo = 'The provider was reached and is in trouble itself: ask those who run it, or wait until it is well again.';
  if (/^the secret cannot be read/.test(what)) todo = 'Put the secret where the configuration says it is.';
  if (/^no assertion can be signed/.test(what)) todo = 'Put a key that fits in its place.';
  if (token.answers?.[0]?.outcome === 'limited') todo = 'Wait, and see who else uses up this client’s limit.';
  return exactly(what) + todo + next(token, now);
}

const CHECK = 'Compare client_id and secret with what the provider has. A secret file that changes is read again at once.';

/** What is wrong with a token, if anything; `sentence` has nothing in it that changes by itself. */
function ofToken(token, now) {
  const { state, asking, failures = 0, usable_until: until, budget } = token;
  const credentials = token.credentials ?? [];
  const rejected = credentials.filter((credential) => credential.rejected);
  const inUse = credentials.find((credential) => credential.in_use);
  const usable = state === 'fresh' || state === 'stale';
  const end = until ? clock(Date.parse(until), now) : 'its end';
  const failing = failures > 0 || (token.last_error && !asking && !usable);

  if (failing && rejected.length > 0 && rejected.length === credentials.length) {
    const which = credentials.length === 1
      ? `the credential \`${rejected[0].name}\` of ${named(token)}, and none stands by`
      : `every credential of ${named(token)}`;
    const todo = exactly(rejected[0].rejected.what) + CHECK + next(token, now);
    return usable
      ? { level: 'warn', sentence: `The provider rejects ${which}. Requests keep working until ${end}.`, todo }
      : { level: 'bad', sentence: `The provider rejects ${which}. Requests that need it get 503.`, todo };
  }
  if (failing && usable) {
    const sentence = `${Named(token)} cannot be renewed: ${why(token)}. Requests keep working until ${end}.`;
    return { level: 'warn', sentence, todo: cure(token, now) };
  }
  if (failing) {
    const fate = state === 'expired' ? 'has expired and there is no new one' : 'could not be fetched yet';
    return { level: 'bad', sentence: `${Named(token)} ${fate}: ${why(token)}. Requests that need it get 503.`, todo: cure(token, now) };
  }
  if (rejected.length > 0 && inUse && !inUse.rejected) {
    const others = rejected.map((credential) => `\`${credential.name}\``);
    const sentence = `The provider rejected the credential ${list(others)} of ${named(token)}; `
      + `the standby \`${inUse.name}\` is in use, and requests work.`;
    return { level: 'warn', sentence, todo: exactly(rejected[0].rejected.what) + CHECK };
  }
  if (budget?.left === 0 && !asking && state !== 'fresh') {
    const sentence = usable
      ? `${Named(token)} should be renewed, but its budget is spent. Requests keep working until ${end}.`
      : `There is no ${named(token)}, and its budget is spent. Requests that need it get 503.`;
    const todo = `See what uses up so many tokens, or raise \`budget\`.${next(token, now)}`;
    return { level: usable ? 'warn' : 'bad', sentence, todo };
  }
  if (usable) return null;
  if (asking) {
    const fate = state === 'expired' ? 'has expired, and a new one is being fetched' : 'is being fetched';
    return { level: 'note', sentence: `${Named(token)} ${fate}. Requests that need it wait.`, todo: '' };
  }
  const fate = state === 'expired' ? 'has expired, and nobody has asked for it since' : 'has not been asked for yet';
  return { level: 'note', sentence: `${Named(token)} ${fate}.`, todo: 'The next request that needs it fetches one.' };
}

/** What is wrong with a route of late, if anything. */
function ofRoute(route, status, now) {
  const steps = Math.ceil(120 / (status.history?.step_seconds ?? 15));
  const [failed, requests] = ['failed', 'requests'].map((name) => sum(route.history?.[name]?.slice(-steps)));
  if (failed === 0) return null;
  const last = (status.refused?.last ?? []).find(({ route: name, at }) => name === route.name && now - Date.parse(at) < RECENT);
  const word = last?.reason ?? Object.entries(route.reasons ?? {}).sort(([, a], [, b]) => b - a)[0]?.[0];
  // The token's own trouble says it better.
  if (word === 'no_token') return null;
  const share = failed / Math.max(failed, requests);
  const amount = share === 1 ? 'All' : share > 0.5 ? 'Most' : 'Some';
  return {
    level: share >= 0.5 ? 'bad' : share >= 0.02 ? 'warn' : 'aside',
    sentence: `${amount} requests of route \`${route.name}\` failed in the last two minutes${word ? ` (\`${word}\`)` : ''}.`,
    todo: word ? reason(word) : 'The log says why.',
  };
}

/** What is wrong with a configuration that is right, but for the bearerd that runs. */
const RESTART = /cannot change while bearerd runs|needs a restart|; restart /;

function ofReload({ outcome, why } = {}) {
  const lines = (why ?? '').split('\n').filter(Boolean);
  const told = lines.map((line) => `${line.replace(/\.$/, '')}. `).join('');
  if (outcome === 'waiting') {
    return {
      level: 'warn',
      sentence: 'A change of the configuration waits for a token; the one before serves.',
      todo: `${exactly(why)}Once it comes, the change is in force. If it does not, \`bearerd doctor\` goes through its provider; `
        + 'correct the change, or take it back.',
    };
  }
  if (outcome === 'refused' && lines.some((line) => RESTART.test(line))) {
    return {
      level: 'warn',
      sentence: 'The changed configuration was refused: it needs a restart. The one before keeps serving.',
      todo: `${lines.map((line) => exactly(line.replace(/; restart .*/, ''))).join('')}Restart bearerd for it, or take the change back.`,
    };
  }
  if (outcome === 'refused') {
    return {
      level: 'warn',
      sentence: 'The changed configuration was refused; the one before keeps serving.',
      todo: `${told}\`bearerd check\` tells all that is wrong with it.`,
    };
  }
  return null;
}

function ofPhase({ phase }) {
  const ends = { lame_duck: 'It still takes requests.', draining: 'It finishes what is in flight and takes nothing new.' };
  if (!ends[phase]) return null;
  return { level: 'note', sentence: `bearerd is shutting down. ${ends[phase]}`, todo: 'If nobody meant it to, see who sent the signal.' };
}

/** Requests that were turned away at the door: worth a word, not an alarm. */
function atTheDoor(status, now) {
  const recent = (status.refused?.last ?? []).filter(({ route, at }) => !route && now - Date.parse(at) < RECENT);
  const reasons = [...new Set(recent.map(({ reason: word }) => `\`${word}\``))];
  if (reasons.length === 0) return null;
  return { level: 'aside', sentence: `Turned away in the last five minutes: ${list(reasons)}.`, todo: 'What that means stands under “Refused”.' };
}

/** What readiness is about, which is not whether all is well. */
export function readiness({ phase, waiting_for: waiting = [], tokens = [] }) {
  if (waiting.length > 0) return `waits for ${list(waiting)}`;
  if (phase && phase !== 'serving') return 'bearerd is shutting down';
  return tokens.length > 0 ? 'every required token has been held once' : null;
}

function allWell(status, now) {
  const tokens = status.tokens ?? [];
  const asked = tokens.filter((token) => token.asking);
  const names = asked.map((token) => `\`${token.name}\``);
  const due = tokens.filter(({ renew_at: at }) => at).sort((a, b) => Date.parse(a.renew_at) - Date.parse(b.renew_at))[0];
  const planned = due && !due.asking
    ? ` The next renewal is that of \`${due.name}\`, at ${clock(Date.parse(due.renew_at), now)}.` : '';
  let sentence = `All ${tokens.length} tokens are fresh.`;
  if (tokens.length === 2) sentence = 'Both tokens are fresh.';
  if (tokens.length === 1) sentence = `${Named(tokens[0])} is fresh.`;
  if (tokens.length === 0) sentence = 'bearerd works. No token is configured.';
  if (asked.length > 0) {
    const is = asked.length === 1 ? 'is' : 'are';
    sentence = tokens.length === 1
      ? `${Named(tokens[0])} is being renewed, and requests go on with the one in hand.`
      : `All tokens are usable; ${list(names)} ${is} being renewed.`;
  }
  return { level: 'ok', sentence, todo: `Nothing to do.${planned}` };
}

/**
 * How things are, in one sentence, and what to do: `{level, sentence, todo, also}`, where `level` is `bad`, `warn`, `note`
 * or `ok`, and `also` is what else there is, of the same shape. `status` is what /status said, null if nothing yet;
 * `lost` is since when (in milliseconds) and how it does not answer, null if it does.
 */
export function verdict(status, lost, now = Date.now()) {
  if (lost) {
    const since = clock(lost.since, now);
    const sentence = status
      ? `bearerd has not answered since ${since}. What stands below is of then.`
      : `bearerd does not answer (${lost.why}).`;
    const todo = lost.refused
      ? 'Reload this page: it may ask for a name and a password.'
      : 'See whether it runs (`systemctl status bearerd`, `kubectl get pods`), and what its last lines say. '
        + 'This page goes on by itself once it answers.';
    return { level: 'bad', lost: true, sentence, todo, also: [] };
  }
  if (!status) return { level: 'note', sentence: 'Asking bearerd how things are …', todo: '', also: [] };
  const time = Date.parse(status.now) || now;
  const found = [
    ...(status.tokens ?? []).map((token) => ofToken(token, time)),
    ...(status.routes ?? []).map((route) => ofRoute(route, status, time)),
    ofReload(status.configuration?.last_reload ?? {}),
    atTheDoor(status, time),
  ].filter(Boolean)
    .map((one) => ({ ...one, todo: here(one.todo, status.configuration) }))
    .sort((a, b) => LEVELS.indexOf(a.level) - LEVELS.indexOf(b.level));
  // Who shuts down is not in trouble for what it ends.
  const ending = ofPhase(status);
  if (ending) return { ...ending, also: found };
  const top = found[0] && found[0].level !== 'aside' ? found.shift() : allWell(status, time);
  return { ...top, also: found };
}
