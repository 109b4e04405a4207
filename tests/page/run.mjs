// bearerd's status page in a real Chromium: the built binary between a provider and an API that do as they are told is
// brought into each situation, and the page must say so, to the eye, to a screen reader and on a phone.
//
// `node run.mjs [--screenshots FOLDER]`. BEARERD names the binary, CHROMIUM the browser. README.md says how to run it.
import { mkdirSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { once } from 'node:events';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { certificates, check, eventually, failures, file, folder, tell } from '../oidc-provider/rig.mjs';
import * as debian from '../oidc-provider/debian.mjs';
import { PHONE, WIDE, found, launch, open, says, sentence, sound } from './browser.mjs';
import { smaller } from './png.mjs';
import { CANARY, api, provider, secret, sidecar, traffic } from './stage.mjs';
import { lively, verdicts } from './verdicts.mjs';

process.env.TZ = 'UTC';
const { screenshots } = parseArgs({ options: { screenshots: { type: 'string' } } }).values;

const HOUR = 3600;
/** Renewal is planned after a tenth of a token's life. */
const EARLY = 'refresh: {early: 90%, timeout: 5m}';

const token = (name, url, clients, more = '') => `
  ${name}:
    token_url: ${url}
    credentials: [${clients.map((client) => `{client_id: ${client}, client_secret: ${secret(client)}}`).join(', ')}]
    ${more}`;
const route = (name, port, of) => `
  - {name: ${name}, match: {path: /${name}}, upstream: "http://127.0.0.1:${port}", token: ${of}, allow_plaintext: true}`;

/** Each has its own provider, so that one can be brought down without the others. */
async function situations() {
  const upstream = await api();
  const make = async (name, rules, tokens) => {
    const from = await provider(rules);
    const routes = route('orders', upstream, 'orders') + route('billing', upstream, 'billing') + route('search', upstream, 'none');
    const of = await sidecar(name, `tokens:${tokens(from.url)}\nroutes:${routes}\n`);
    await of.start();
    traffic(of, ['/orders', '/orders', '/orders', '/billing', '/orders', '/search']);
    return Object.assign(of, { from });
  };
  const billing = (url) => token('billing', url, ['billing-app']);
  const rules = (orders) => ({ 'orders-app': orders, 'orders-app-2': orders, 'billing-app': 8 * HOUR });
  const both = ['orders-app', 'orders-app-2'];
  const held = (of) => eventually(`${of.name} holds its tokens`, 20, async () => (await of.status()).ready);
  const [fresh, renewing, outage, expired, standby, rejected] = await Promise.all([
    make('fresh', rules(HOUR), (url) => token('orders', url, both, 'budget: 60/1h') + billing(url)),
    make('renewing', rules(600), (url) => token('orders', url, both, EARLY) + billing(url)),
    make('outage', rules(600), (url) => token('orders', url, both, EARLY) + billing(url)),
    make('expired', rules(15), (url) => token('orders', url, both) + billing(url)),
    make('standby', { ...rules(HOUR), 'orders-app': 'rejected' }, (url) => token('orders', url, both) + billing(url)),
    make('rejected', { ...rules('rejected') }, (url) => token('orders', url, ['orders-app']) + billing(url)),
  ]);
  await Promise.all([fresh, renewing, outage, expired, standby].map(held));
  renewing.from.hold();
  await Promise.all([outage.from.die(), expired.from.die()]);
  return { fresh, renewing, outage, expired, standby, rejected };
}

const card = (page, name) => page.getByRole('article', { name: `Token ${name}`, exact: true });
const bar = (page, name) => page.getByRole('progressbar', { name: `Life of token ${name}` });

/** The text that an element has, sooner or later. */
async function has(what, place, expected) {
  const good = await place.filter({ hasText: expected }).first().waitFor({ timeout: 30_000 }).then(() => true, () => false);
  check(`${what} says ${expected}`, good, await place.first().textContent({ timeout: 1000 }).catch(() => 'it is not there'));
}

/** What each situation must look like. */
const STORIES = {
  fresh: {
    sentence: 'Both tokens are fresh.',
    async also(page) {
      await has('fresh: the card', card(page, 'orders'), /Fresh.*left.*issued.*Bought today1 token.*Budget\d+ of 60 left per 1 h/);
      await has('fresh: the card', card(page, 'orders'), /Asks nextin \d+ mina planned renewal/);
      await has('fresh: the card', card(page, 'orders'), /orders-app.*in use.*orders-app-2.*stands by/);
      const [now, most] = await Promise.all(['aria-valuenow', 'aria-valuemax'].map((name) => bar(page, 'orders').getAttribute(name)));
      check('fresh: the bar is of an hour, and near its begin', most === '3600' && Number(now) < 300, `${now} of ${most}`);
      const said = await bar(page, 'orders').getAttribute('aria-valuetext');
      check('fresh: the bar says its life', /have passed; usable for another (59|5\d) min; renewal planned at \d\d:\d\d:\d\d/.test(said), said);
      const answers = page.getByRole('table', { name: 'Last answers of the provider' }).first();
      await has('fresh: the answers', answers, /granted/);
      const heads = await answers.getByRole('columnheader').allTextContents();
      check('fresh: the answers have headings', heads.join() === 'When,Answer,Credential,Took,What', heads.join());
      const orders = page.getByRole('article', { name: 'Route orders' });
      for (const [name, expected] of [
        ['Requests', /Requests in the last 15 minutes: \d+, of which none failed; at most \d+ a (second|minute), lately/],
        ['Latency', /half of the requests within [\d.]+ ms, 99 of 100 within [\d.]+ ms/],
        ['Connections', /Connections to the API in the last 15 minutes: at most \d+, now \d+/],
      ]) {
        const chart = orders.getByRole('img', { name: expected });
        check(`fresh: the chart ${name} says its numbers`, await chart.waitFor({ timeout: 40_000 }).then(() => true, () => false),
          await orders.getByRole('img').evaluateAll((all) => all.map((one) => one.getAttribute('aria-label')).join('\n')));
      }
      await has('fresh: who was turned away', page.getByRole('table', { name: 'How often, since the start' }), /web_origin\d+A page in somebody/);
      await has('fresh: the last of them', page.getByRole('table', { name: 'The last ones' }), /\d\d:\d\d:\d\dweb_origin/);
      await has('fresh: a word about it', page.locator('#advice'), 'Turned away in the last five minutes: web_origin.');
    },
  },
  expired: {
    sentence: 'Token orders has expired and there is no new one: the provider does not answer. Requests that need it get 503.',
    async also(page) {
      await has('expired: the card', card(page, 'orders'), /Expired.*no time left/);
      check('expired: the bar is full', await bar(page, 'orders').getAttribute('aria-valuenow') === '15', 'it is not');
      const [label, mark] = await Promise.all(['.legend .until', '.life .margin'].map((what) => card(page, 'orders').locator(what).boundingBox()));
      check('expired: the label ends at its mark', Math.abs(label.x + label.width - mark.x) < 2 && mark.width > 20, JSON.stringify([label, mark]));
      await has('expired: what ready means', page.getByRole('region', { name: 'This bearerd' }), /Readyyesevery required token has been held once/);
      await has('expired: the route', page.getByRole('article', { name: 'Route orders' }), /\d+ × no_token There was no token/);
    },
  },
  standby: {
    sentence: 'The provider rejected the credential orders-app of token orders; the standby orders-app-2 is in use, and requests work.',
    also: (page) => has('standby: the card', card(page, 'orders'), /orders-app.*rejected.*invalid_client.*orders-app-2.*in use/),
  },
  rejected: {
    sentence: 'The provider rejects the credential orders-app of token orders, and none stands by. Requests that need it get 503.',
    also: (page) => has('rejected: the card', card(page, 'orders'), /None.*no token in hand.*rejected.*Tried again all the same/),
  },
  renewing: {
    sentence: 'All tokens are usable; orders is being renewed.',
    also: (page) => has('renewing: the card', card(page, 'orders'), /Stale, being renewed.*Asks nextnow: a request is under way/),
  },
  outage: {
    sentence: /Token orders cannot be renewed: the provider does not answer\. Requests keep working until \d\d:\d\d:\d\d\./,
    async also(page) {
      await has('outage: the card', card(page, 'orders'), /Stale.*left.*Asks nextin \d+ sbackoff.*Failures in a row/);
      await has('outage: the answers', card(page, 'orders').getByRole('table').first(), /failed.*orders-app.*cannot be reached/);
      await has('outage: the other token', card(page, 'billing'), 'Fresh');
    },
  },
};

/** For pictures only: real tokens, and routes with a quarter of an hour behind them, for which a rig has no time. */
function older(status) {
  const { routes, history } = lively();
  const real = Object.fromEntries(status.routes.map((route) => [route.name, route]));
  status.routes = routes.map((route) => {
    if (real[route.name].failed === 0) {
      return { ...route, failed: 0, reasons: {}, statuses: { '2xx': route.requests }, history: { ...route.history, failed: route.history.failed.map(() => 0) } };
    }
    // What fails now has failed for the last three minutes.
    const failed = route.history.requests.map((all, i) => (i > 47 ? all : 0));
    const sum = failed.reduce((one, other) => one + other);
    return { ...route, failed: sum, reasons: { no_token: sum }, statuses: { '2xx': route.requests - sum, '5xx': sum }, history: { ...route.history, failed } };
  });
  status.history = { ...history, until: status.now };
  status.configuration.origin = lively().configuration.origin;
  status.refused.last = status.refused.last.filter(({ route }) => route);
  return status;
}

async function picture(browser, of, name, last, options = {}) {
  const page = await open(browser, of.origin, { deviceScaleFactor: 1.5, ...options, answer: older });
  await says(page, `${name}.png`, STORIES[of.name].sentence);
  await page.getByRole('img').first().waitFor();
  const { width } = options.viewport ?? WIDE;
  // Whole cards, down to the one that is named.
  const { y, height: own } = await page.getByRole('article', { name: last, exact: true }).boundingBox();
  const height = Math.ceil(y + own + 6);
  const shot = smaller(await page.screenshot({ fullPage: true, clip: { x: 0, y: 0, width, height } }));
  check(`${name}.png is small`, shot.length < 150_000, `${shot.length} bytes`);
  writeFileSync(join(screenshots, `${name}.png`), shot);
  await page.context().close();
}

/** Counts how often the sentence was spoken since it was first called. */
const spoken = (page) => page.evaluate(() => {
  if (window.spoken === undefined) {
    window.spoken = 0;
    const place = document.getElementById('sentence');
    new MutationObserver(() => { window.spoken += 1; }).observe(place, { childList: true, characterData: true, subtree: true });
  }
  return window.spoken;
});

/** Time passes on the page, and nobody is told the same again. */
async function quiet(browser, { origin }) {
  const page = await open(browser, origin);
  await says(page, 'quiet', STORIES.outage.sentence);
  const summary = page.getByText(/^\d+ more$/).first();
  const left = () => card(page, 'orders').locator('.left').textContent();
  await spoken(page);
  const seen = new Set();
  await eventually('time left runs down', 20, async () => seen.add(await left()).size > 4);
  check('quiet: the sentence is not spoken again while time runs down', await spoken(page) === 0, `${await spoken(page)} times`);
  // By the keyboard.
  if (await summary.count() > 0) {
    await summary.focus();
    await page.keyboard.press('Enter');
    const open = () => summary.evaluate((node) => node.parentElement.open);
    const before = await left();
    await eventually('time goes on', 10, async () => await left() !== before);
    check('quiet: what was unfolded stays so', await open() && await summary.evaluate((node) => node === document.activeElement), 'it does not');
  }
  await page.locator('body').click();
  await page.keyboard.press('Tab');
  const outline = await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
  check('quiet: the focus is seen', outline === 'solid', outline);
  // Out of sight.
  await page.evaluate(() => {
    Object.defineProperty(document, 'hidden', { configurable: true, get: () => true });
    document.dispatchEvent(new Event('visibilitychange'));
  });
  await sleep(1000);
  const asked = page.asked.length;
  await sleep(5000);
  check('hidden: it does not ask', page.asked.length === asked, `${page.asked.length - asked} times`);
  await page.evaluate(() => {
    delete document.hidden;
    document.dispatchEvent(new Event('visibilitychange'));
  });
  await eventually('seen again: it asks', 5, () => page.asked.length > asked);
  check('quiet: it asks for its files, and for /status', page.asked.every((url) => url === `${origin}/` || url === `${origin}/status`
    || url.startsWith(`${origin}/page/`) || url.startsWith('data:')), page.asked.join('\n'));
  check('quiet: nothing to complain of', page.wrong.length === 0, page.wrong.join('\n'));
  await page.context().close();
}

/** bearerd ends and comes back while somebody looks. */
async function gone(browser, of) {
  const page = await open(browser, of.origin);
  await says(page, 'before it is gone', STORIES.standby.sentence);
  await of.stop();
  await says(page, 'gone', /Trouble bearerd has not answered since \d\d:\d\d:\d\d\. What stands below is of then\./);
  await has('gone: the age', page.locator('#live'), /^Old, \d+ s ago$/);
  check('gone: so does its title', (await page.title()).startsWith('Trouble: '), await page.title());
  await sound(page, 'gone', /net::ERR_(CONNECTION_REFUSED|CONNECTION_RESET|EMPTY_RESPONSE)/);
  await of.start();
  await says(page, 'back', STORIES.standby.sentence);
  await has('back: the age', page.locator('#live'), /^Live, /);
  await page.context().close();
}

/** Other pages, other names. */
async function foreign(browser, { origin }) {
  const page = await (await browser.newContext()).newPage();
  const rebound = await page.goto(`${origin.replace('localhost', 'evil.test')}/`);
  check('by a foreign name it is refused', rebound.status() === 421, String(rebound.status()));
  const elsewhere = createServer((request, response) => {
    response.setHeader('content-type', 'text/html');
    response.end(`<a href="${origin}/">look</a><iframe src="${origin}/"></iframe>`);
  }).listen(0, '127.0.0.1');
  await once(elsewhere, 'listening');
  await page.goto(`http://evil.test:${elsewhere.address().port}/`);
  const read = await page.evaluate((url) => fetch(`${url}/status`).then(() => 'read', () => 'not read'), origin);
  check('a foreign page cannot read /status', read === 'not read', read);
  const framed = await page.frames()[1].content().catch(() => '');
  check('a foreign page cannot frame it', !framed.includes('verdict'), framed);
  const [followed] = await Promise.all([page.waitForNavigation(), page.getByText('look').click()]);
  check('by a link on a foreign page it is refused', followed.status() === 403, String(followed.status()));
  await page.context().close();
}

/** From another machine: over TLS, with a name and a password, which the browser keeps for what the page asks. */
async function named(browser) {
  const [, { cert, key }] = await certificates('DNS:localhost');
  const tls = `{cert_file: ${file('admin.pem', cert)}, key_file: ${file('admin.key', key)}}`;
  const password = `${CANARY}-password`;
  const callers = `callers: {clients: [{name: night, password: {file: ${file('password', password)}}}]}`;
  const of = await sidecar('named', `${callers}\nroutes:${route('search', 9, 'none')}\n`, tls);
  await of.start();
  const asked = await (await browser.newContext({ ignoreHTTPSErrors: true })).newPage();
  const refused = await asked.goto(`${of.origin}/`).then((answer) => answer.status(), (error) => error.message);
  check('named: without a name it is refused', refused === 401 || /ERR_INVALID_AUTH_CREDENTIALS/.test(refused), String(refused));
  await asked.context().close();
  const page = await open(browser, of.origin, { ignoreHTTPSErrors: true, httpCredentials: { username: 'night', password } });
  await says(page, 'named', 'bearerd works. No token is configured.');
  await sound(page, 'named');
  await page.context().close();
}

/** Without JavaScript, without a token, without a request, with very many routes, and with an older /status. */
async function edges(browser, { fresh, renewing }) {
  const still = await open(browser, fresh.origin, { javaScriptEnabled: false });
  const told = await still.locator('main').innerText();
  check('without JavaScript it leads to /status', /by JavaScript, which is off.*\/status/s.test(told), told);
  await still.context().close();

  const upstream = await api();
  const idle = await sidecar('idle', `routes:${route('search', upstream, 'none')}\n`);
  await idle.start();
  const empty = await open(browser, idle.origin);
  await says(empty, 'empty', 'bearerd works. No token is configured.');
  await has('empty: the route', empty.getByRole('article', { name: 'Route search' }), `No request has come yet. Try: curl -i http://127.0.0.1:${idle.listen}/search/`);
  await has('empty: what is refused', empty.locator('#parts'), 'Nothing was refused');
  await sound(empty, 'empty');
  await empty.context().close();

  const many = (status) => {
    const [like] = lively().routes;
    status.routes = Array.from({ length: 120 }, (_, i) => ({ ...like, name: `route-${i}-of-a-long-name-that-does-not-break`, requests: i }));
    status.tokens = Array.from({ length: 9 }, (_, i) => ({ ...status.tokens[0], name: `token-${i}` }));
    return status;
  };
  const crowd = await open(browser, fresh.origin, { viewport: PHONE, answer: many });
  await has('very many routes: the page', crowd.locator('#parts'), 'Here are the busiest 50 of 120 routes');
  await crowd.getByText('44 more routes').click();
  const shown = await crowd.getByRole('article', { name: /^Route / }).count();
  check('very many routes: 50 are shown', shown === 50, String(shown));
  await sound(crowd, 'very many routes');
  await crowd.context().close();

  // Whatever a peer or a configuration may call itself is text.
  const markup = `<img src=x onerror=alert(1)>"'&<script>alert(2)</script>`;
  const evil = (status) => {
    const said = { ...lively(), version: status.version };
    for (const one of said.tokens) {
      one.name = one.name + markup;
      one.last_error = { at: said.now, what: markup };
      one.failures = 3;
      one.state = 'stale';
      for (const each of [...one.answers, ...one.credentials]) Object.assign(each, { what: markup, credential: markup, name: markup, rejected: { at: said.now, what: markup } });
    }
    for (const one of said.routes) Object.assign(one, { name: markup, upstream: markup, reasons: { [markup]: 3 } });
    for (const one of said.refused.last) Object.assign(one, { what: markup, route: markup, listener: markup, reason: markup });
    said.refused.totals = { [markup]: 1 };
    said.configuration = { origin: markup, loaded_at: said.now, last_reload: { at: said.now, outcome: 'refused', why: markup } };
    return said;
  };
  const attacked = await open(browser, fresh.origin, { answer: evil });
  await has('markup as names: the page', attacked.locator('#parts'), markup);
  const made = await attacked.locator('img, script:not([src])').count();
  check('markup as names: none becomes an element', made === 0, `${made} did`);
  await sound(attacked, 'markup as names');
  await attacked.context().close();

  // A quarter of an hour, and who was refused.
  const full = await open(browser, fresh.origin, { answer: (status) => ({ ...lively(), version: status.version }) });
  await has('a lively quarter: the last refusals', full.getByRole('table', { name: 'The last ones' }),
    /02:03:51upstream_timeoutorders.*7 times.*web_originlocalhost:4280/);
  await has('a lively quarter: the answers', card(full, 'orders'), /did not answer within 10s.*1 more/);
  const [requests, failed] = ['requests', 'failed'].map((name) => lively().routes[0].history[name].reduce((one, other) => one + other));
  const said = await full.getByRole('img', { name: /^Requests/ }).first().getAttribute('aria-label');
  const expected = `Requests in the last 15 minutes: ${requests.toLocaleString('en')}, of which ${failed} failed; at most 26 a second`;
  check(`a lively quarter: the chart says ${expected}`, said.startsWith(expected), said);
  await has('a lively quarter: the reload', full.getByRole('region', { name: 'This bearerd' }), /Last reloadapplied/);
  await sound(full, 'a lively quarter');
  await full.context().close();

  // Addresses stay whole where there is room for them.
  const address = '[2001:db8:1234:5678:9abc:def0:1234:5678]:14280';
  const far = (status) => {
    const said = { ...lively(), version: status.version };
    said.refused.last = ['127.0.0.1:4280', address].map((listener) => ({ at: said.now, reason: 'upstream_timeout', route: null, listener, what: 'a long story '.repeat(20), times: 3 }));
    return said;
  };
  const wide = await open(browser, fresh.origin, { answer: far, viewport: { width: 1200, height: 900 } });
  await has('long addresses: the page', wide.getByRole('table', { name: 'The last ones' }), address);
  const lines = await wide.locator('[data-heading=Where]').evaluateAll((cells) => cells.map((cell) => {
    const range = document.createRange();
    range.selectNodeContents(cell);
    return new Set([...range.getClientRects()].map(({ top }) => top)).size;
  }));
  check('long addresses: each is on one line', lines.join() === '1,1', lines.join());
  await sound(wide, 'long addresses');
  await wide.context().close();

  // What moves does so only for those who do not mind.
  for (const [reducedMotion, moving] of [['no-preference', 1], ['reduce', 0]]) {
    const page = await open(browser, renewing.origin, { reducedMotion });
    await has(`motion, ${reducedMotion}: the card`, card(page, 'orders'), 'being renewed');
    const count = await page.evaluate(() => document.getAnimations().length);
    check(`motion, ${reducedMotion}: ${moving} moves`, count === moving, String(count));
    await page.context().close();
  }

  // What an older bearerd says, and what a newer one may leave out.
  const old = ({ version, phase, ready, tokens: all }) => ({
    version, phase, ready, tokens: all.map(({ name, state, usable_until: until }) => ({ name, state, usable_until: until })), routes: [{ name: 'r', upstream: 'u', requests: 3 }],
  });
  const bare = await open(browser, fresh.origin, { answer: old });
  await says(bare, 'half of the fields', 'Both tokens are fresh.');
  await has('half of the fields: the route', bare.getByRole('article', { name: 'Route r' }), 'Requests3');
  await sound(bare, 'half of the fields');
  await bare.context().close();
}

async function fonts() {
  // What most systems have in place of a system font; without it the pictures have whatever is here.
  const { root } = await debian.unpacked('fonts-inter', ['fonts-inter']).catch(() => ({}));
  return root && {
    FONTCONFIG_FILE: file('fonts.conf', `<?xml version="1.0"?><!DOCTYPE fontconfig SYSTEM "fonts.dtd"><fontconfig>
<dir>${root}/usr/share/fonts</dir><dir>/usr/share/fonts</dir><cachedir>${folder}/fonts</cachedir>
<match target="pattern"><test name="family"><string>system-ui</string></test>
<edit name="family" mode="assign" binding="strong"><string>Inter</string></edit></match></fontconfig>`),
  };
}

async function story() {
  verdicts();
  const browser = await launch(screenshots ? await fonts() : {});
  const all = await situations();
  // Those whose renewal is to come are last.
  for (const [name, { sentence: expected, also }] of Object.entries(STORIES)) {
    const { origin } = all[name];
    const page = await open(browser, origin);
    await says(page, name, expected);
    await also(page);
    await sound(page, name);
    await page.emulateMedia({ colorScheme: 'dark' });
    await page.setViewportSize(PHONE);
    await sound(page, `${name}, dark, on a phone`);
    await page.context().close();
  }
  if (screenshots) {
    mkdirSync(screenshots, { recursive: true });
    for (const of of Object.values(all)) await picture(browser, of, of.name, 'Route orders');
    await picture(browser, all.fresh, 'fresh-dark', 'Route billing', { colorScheme: 'dark' });
    await picture(browser, all.outage, 'outage-phone', 'Token orders', { viewport: PHONE });
    await picture(browser, all.standby, 'standby-phone-dark', 'Token orders', { viewport: PHONE, colorScheme: 'dark' });
  }
  await quiet(browser, all.outage);
  await gone(browser, all.standby);
  await foreign(browser, all.fresh);
  await named(browser);
  await edges(browser, all);
  await browser.close();
}

if (found() === undefined) {
  console.log('skipped: there is no Chromium');
  process.exit(0);
}
await tell(story, () => console.log(failures.join('\n')));
