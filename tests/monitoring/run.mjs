// The alert rules and the dashboard of deploy/ against a real Prometheus that scrapes a real bearerd: first when all is well,
// then with much of what can go wrong, then with nothing left to scrape. promtool tests each rule by made-up numbers; here it
// is shown that the numbers are there, under the names and labels that rules and panels ask for.
//
// BEARERD names the binary; the default is the debug build. README.md says how to run it.
import { once } from 'node:events';
import { existsSync, readFileSync, renameSync } from 'node:fs';
import { createServer } from 'node:http';
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { bearerd, certificates, check, eventually, file, freePorts, tell } from '../oidc-provider/rig.mjs';
import { promtool, start, unpacked } from './prometheus.mjs';

const at = (path) => fileURLToPath(new URL(path, import.meta.url));
const BINARY = process.env.BEARERD ?? at('../../target/debug/bearerd');
const RULES = at('../../deploy/prometheus/alerts.yaml');
const TESTS = at('alerts.test.yaml');
const DASHBOARD = JSON.parse(readFileSync(at('../../deploy/grafana/bearerd.json'), 'utf8'));

// Seconds: short, so that renewals are seen within the story.
const LIFE = 12;
// Each counter needs two scrapes before there is a rate of it.
const WINDOW = 10;

/** The provider and the API in one server over http, which bearerd allows on loopback. `trouble` turns both bad. */
async function world() {
  const state = { trouble: false, held: [] };
  const server = createServer(async (request, response) => {
    let body = '';
    for await (const piece of request) body += piece;
    const answer = (status, content, headers = {}) => {
      response.writeHead(status, { 'content-type': 'application/json', ...headers });
      response.end(JSON.stringify(content));
    };
    if (request.url !== '/token') {
      if (state.trouble && request.url.startsWith('/ill')) return request.socket.destroy();
      const isOld = request.headers.authorization?.includes('-old-');
      if (state.trouble && request.url.startsWith('/frugal') && isOld) return answer(401, {}, { 'www-authenticate': 'Bearer' });
      return answer(state.trouble && request.url.startsWith('/strange') ? 503 : 200, { ok: true });
    }
    const client = new URLSearchParams(body).get('client_id');
    if (state.trouble && client === 'rotated') return answer(401, { error: 'invalid_client' });
    if (state.trouble && client === 'limited') return answer(429, { error: 'slow_down' }, { 'retry-after': '1' });
    if (state.trouble && client === 'away') return answer(500, {});
    const age = state.trouble ? 'new' : 'old';
    // A long life, until the first of its tokens is refused: from then on a budget is soon spent.
    const life = client !== 'frugal' ? LIFE : state.trouble ? 2 : 3_600;
    return answer(200, { access_token: `t-${client}-${age}-${Math.random()}`, token_type: 'Bearer', expires_in: life });
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  return { state, url: `http://127.0.0.1:${server.address().port}`, stop: () => server.close() };
}

/** One request through bearerd; whatever comes of it. */
const get = (port, path) => fetch(`http://127.0.0.1:${port}${path}`).then((answer) => answer.arrayBuffer()).catch(() => {});

/** OpenMetrics in the older format, the only one that `promtool check metrics` reads: counters and infos by their whole name. */
function plain(page) {
  const ends = new Map([...page.matchAll(/^# TYPE (\S+) (counter|info)$/gm)].map(([, name, type]) => (
    [name, type === 'counter' ? '_total' : '_info'])));
  return page.replace(/^# EOF\n/m, '').replace(/^# UNIT .*\n/gm, '')
    .replace(/^# (HELP|TYPE) (\S+) (.*)$/gm, (_, word, name, rest) => (
      `# ${word} ${name}${ends.get(name) ?? ''} ${word === 'TYPE' && rest === 'info' ? 'gauge' : rest}`));
}

/** Every expression of the dashboard, with its variables filled in, and where it stands. */
function expressions() {
  const filled = (expr) => expr.replaceAll('$__rate_interval', `${WINDOW}s`).replace(/\$(job|instance|route|token)\b/g, '.*');
  const panels = DASHBOARD.panels.flatMap((panel) => [panel, ...(panel.panels ?? [])]);
  return panels.flatMap(({ title, targets = [] }) => targets.map(({ expr, refId, instant }) => (
    { where: `${title} ${refId}`, expr: filled(expr), instant })));
}

function checkDashboard() {
  const panels = DASHBOARD.panels.flatMap((panel) => [panel, ...(panel.panels ?? [])]);
  const ids = panels.map(({ id }) => id);
  check('dashboard: every panel has an id of its own', new Set(ids).size === ids.length, ids);
  const sources = panels.flatMap(({ datasource, targets = [] }) => [datasource, ...targets.map((target) => target.datasource)]);
  const foreign = sources.filter((source) => source !== undefined && source.uid !== '${datasource}');
  check('dashboard: every query goes to the chosen data source', foreign.length === 0, JSON.stringify(foreign));
  const overlaps = panels.flatMap((one, i) => panels.slice(i + 1).filter(({ gridPos: b }) => {
    const a = one.gridPos;
    return a.x < b.x + b.w && b.x < a.x + a.w && a.y < b.y + b.h && b.y < a.y + a.h;
  }).map(({ title }) => `${one.title} and ${title}`));
  check('dashboard: no panel covers another', overlaps.length === 0, overlaps.join(' · '));
  const wide = panels.filter(({ gridPos: { x, w } }) => x + w > 24).map(({ title }) => title);
  check('dashboard: no panel is wider than the screen', wide.length === 0, wide.join(' · '));
  const mute = panels.filter(({ type, title, fieldConfig }) => type !== 'row' && !(title && fieldConfig.defaults));
  check('dashboard: every panel has a title', mute.length === 0, JSON.stringify(mute));
  const declared = DASHBOARD.templating.list.map(({ name }) => name);
  const used = [...new Set([...JSON.stringify(DASHBOARD).matchAll(/\$\{?([a-z]+)\b/g)].map(([, name]) => name))];
  check('dashboard: its variables are those that it uses', used.sort().join() === declared.sort().join(), `${used} ${declared}`);
  check('dashboard: it has the id of no server', DASHBOARD.id === null, DASHBOARD.id);
}

async function story(tools) {
  const rules = await promtool(tools.promtool, ['check', 'rules', RULES]);
  check('promtool takes the rules', rules.good, rules.said);
  const tests = await promtool(tools.promtool, ['test', 'rules', TESTS]);
  check('promtool: each alert comes when it should and not else', tests.good, tests.said);
  const named = [...readFileSync(RULES, 'utf8').matchAll(/^ +- alert: (\w+)$/gm)].map(([, name]) => name);
  const untested = named.filter((name) => !readFileSync(TESTS, 'utf8').includes(name));
  check('every alert has such a test', named.length > 10 && untested.length === 0, untested.join());
  checkDashboard();

  const { state, url, stop } = await world();
  const [, identity] = await certificates('IP:127.0.0.1,DNS:localhost');
  const [port, secure, admin, dead, own] = await freePorts(5);
  const tls = { cert_file: file('cert.pem', identity.cert), key_file: file('key.pem', identity.key) };
  const secret = { file: file('secret', 'a secret') };
  const token = (client_id, more = {}) => (
    { token_url: `${url}/token`, auth: 'client_secret_post', client_id, client_secret: secret, ...more });
  const { client_id, client_secret, ...bare } = token('rotated');
  const credentials = ['rotated', 'standby'].map((client_id) => ({ client_id, client_secret }));
  const route = (name, token, upstream = url) => ({ name, match: { path: `/${name}` }, upstream, token });
  const config = file('bearerd.json', JSON.stringify({
    admin: `127.0.0.1:${admin}`,
    listen: [{ name: 'plain', address: `127.0.0.1:${port}` }, { name: 'tls', address: `127.0.0.1:${secure}`, tls }],
    tokens: {
      rotated: { ...bare, credentials },
      limited: token('limited'),
      away: token('away'),
      frugal: token('frugal', { budget: '10/1h' }),
    },
    routes: [
      route('fine', 'rotated'), route('ill', 'limited'), route('strange', 'away'),
      route('frugal', 'frugal'),
      { ...route('dead', 'none', `http://127.0.0.1:${dead}`) },
    ],
    limits: { connections: 40 },
  }));
  const running = bearerd(BINARY, ['run', '--config', config], { PATH: process.env.PATH });
  let ended;
  running.ended.then((code) => { ended = code; });
  await eventually('bearerd is ready', 20, () => {
    if (ended !== undefined) throw new Error(`bearerd ended (${ended}): ${running.output()}`);
    return running.output().includes('"event":"ready"');
  });
  const prometheus = await start(tools.prometheus, own, RULES, [`127.0.0.1:${admin}`]);

  // All is well: some traffic, and renewals.
  let quiet = false;
  const traffic = (async () => {
    while (!quiet) {
      await Promise.all(['/fine', '/ill', '/strange', '/frugal', ...(state.trouble ? ['/dead'] : [])].map((path) => get(port, path)));
      await sleep(100);
    }
  })();
  await eventually('there are numbers', 30, async () => {
    const { result } = await prometheus.query('sum(increase(bearerd_token_requests_total{outcome="granted"}[10s])) > 0');
    return result?.length > 0;
  });
  await sleep(3_000);
  // The certificate lives for two days.
  const before = await prometheus.alerts(2);
  check('all is well, and no alert says otherwise', before.join() === 'BearerdCertificateExpires', before.join());
  const page = await (await fetch(`http://127.0.0.1:${admin}/metrics`)).text();
  const lint = await promtool(tools.promtool, ['check', 'metrics'], plain(page));
  check('promtool finds nothing wrong with /metrics', lint.good, lint.said);

  // And now much of what can go wrong, at once.
  state.trouble = true;
  renameSync(file('nonsense.json', '{"routs": []}'), config);
  const held = Array.from({ length: 34 }, () => connect(port, '127.0.0.1').on('error', () => {}));
  const expected = [
    'BearerdBudgetLow', 'BearerdCertificateExpires', 'BearerdConnectionsNearLimit', 'BearerdCredentialRejected',
    'BearerdProviderLimits', 'BearerdReloadFailed', 'BearerdRequestsFail', 'BearerdRouteDown', 'BearerdStandbyInUse',
    'BearerdTokenExpired', 'BearerdTokenNotRenewed',
  ];
  const begun = Date.now();
  let seen;
  await eventually('the alerts of the trouble', 60, async () => {
    seen = await prometheus.alerts(Math.ceil((Date.now() - begun) / 1000) + 1);
    return expected.every((name) => seen.includes(name));
  }).catch(() => {});
  check('every trouble has its alert, and nothing else has', seen.join() === expected.join(), seen.join());

  const { data } = await prometheus.ask('rules');
  const sick = data.groups.flatMap(({ rules }) => rules).filter(({ health }) => health !== 'ok');
  check('Prometheus evaluates every rule', sick.length === 0, JSON.stringify(sick));
  for (const { where, expr, instant } of expressions()) {
    const { error, result } = await prometheus.query(expr, instant ? undefined : 60);
    const numbers = (result ?? []).flatMap(({ value, values }) => (values ?? [value]).map(([, number]) => Number(number)));
    const is = error === undefined && numbers.some(Number.isFinite);
    check(`dashboard: ${where} has data`, is, error ?? `nothing for ${expr}`);
  }
  for (const { name, query: { query } } of DASHBOARD.templating.list.filter(({ type }) => type === 'query')) {
    const [, series, label] = /^label_values\((.*), (\w+)\)$/.exec(query);
    const { result } = await prometheus.query(series.replace(/\$\w+/g, '.*'));
    check(`dashboard: the variable ${name} has values`, result?.some(({ metric }) => metric[label]), query);
  }

  quiet = true;
  await traffic;
  held.forEach((socket) => socket.destroy());
  running.kill('SIGKILL');
  await running.ended;
  await eventually('bearerd is missed', 30, async () => {
    const now = await prometheus.alerts(2);
    return now.includes('BearerdDown') && now.includes('BearerdAbsent');
  });
  check('bearerd that is gone is missed', true);
  check('and did not panic', !/panick/.test(running.output()), running.output());
  stop();
}

if (!existsSync(BINARY)) {
  console.error(`no bearerd at ${BINARY}: build it first (cargo build), or name it in BEARERD`);
  process.exit(1);
}
let tools;
try {
  tools = await unpacked();
} catch (error) {
  console.log(`skipped: Prometheus cannot be had (${error.message})`);
  process.exit(0);
}
await tell(() => story(tools));
