// A real Chromium, and pages in it that are watched: whatever they complain of, and whatever they ask for elsewhere.
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { chromium } from 'playwright-core';
import { check } from '../oidc-provider/rig.mjs';
import { CANARY } from './stage.mjs';

const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

/** Where Chromium is; undefined if it is not. */
export function found() {
  if (process.env.CHROMIUM) return process.env.CHROMIUM;
  for (const name of ['chromium', 'chromium-browser', 'google-chrome']) {
    try {
      return execFileSync('sh', ['-c', `command -v ${name}`], { encoding: 'utf8' }).trim();
    } catch { /* the next one */ }
  }
  return undefined;
}

/** The name `evil.test` leads to this machine, as after DNS rebinding. */
export const launch = (env) => chromium.launch({
  executablePath: found(),
  chromiumSandbox: process.getuid?.() !== 0,
  args: ['--host-resolver-rules=MAP evil.test 127.0.0.1'],
  env: { ...process.env, ...env },
});

export const WIDE = { width: 1120, height: 900 };
export const PHONE = { width: 360, height: 740 };

/** Opens the page of `origin`. `page.wrong` collects what must not happen; `page.asked` is what it asked for. */
export async function open(browser, origin, { viewport = WIDE, colorScheme = 'light', answer, ...options } = {}) {
  const context = await browser.newContext({
    viewport, colorScheme, timezoneId: 'UTC', reducedMotion: 'reduce', ...options,
  });
  const page = await context.newPage();
  page.wrong = [];
  page.asked = [];
  page.on('console', (said) => { if (['error', 'warning'].includes(said.type())) page.wrong.push(said.text()); });
  page.on('pageerror', (error) => page.wrong.push(error.stack));
  page.on('request', (request) => {
    page.asked.push(request.url());
    if (!request.url().startsWith(`${origin}/`) && !request.url().startsWith('data:')) page.wrong.push(request.url());
  });
  // What the policy refuses, the browser tells the document.
  await page.addInitScript(() => {
    document.addEventListener('securitypolicyviolation', (event) => console.error(`CSP: ${event.violatedDirective} ${event.blockedURI}`));
  });
  // Real files of the page over made-up data, or over real data that is changed on its way.
  if (answer) {
    await page.route('**/status', async (route) => {
      // One that is under way when the page is closed comes to nothing.
      await route.fetch().then(async (real) => route.fulfill({ response: real, json: answer(await real.json()) }))
        .catch((error) => { if (!page.isClosed()) page.wrong.push(error.message); });
    });
  }
  await page.goto(`${origin}/`);
  return page;
}

export const sentence = (page) => page.getByRole('status');

/** Waits until the sentence at the top is this one. */
export async function says(page, what, expected) {
  const told = sentence(page).filter({ hasText: expected });
  const good = await told.waitFor({ timeout: 90_000 }).then(() => true, () => false);
  check(`${what}: it says ${expected}`, good, await sentence(page).textContent());
}

/** What must hold of the page whatever it shows; `but` is what the browser may complain of here. */
export async function sound(page, what, but = /^$/) {
  await page.evaluate(AXE);
  const { violations, passes } = await page.evaluate(() => axe.run(document, { resultTypes: ['violations'] }));
  const told = violations.map(({ id, nodes }) => `${id}: ${nodes.slice(0, 2).map(({ html, failureSummary }) => `${html} ${failureSummary}`).join(' | ')}`);
  check(`${what}: axe finds nothing`, violations.length === 0 && passes.length > 10, told.join('\n'));
  const wide = await page.evaluate(() => {
    const { scrollWidth, clientWidth } = document.documentElement;
    return scrollWidth > clientWidth ? `${scrollWidth} in ${clientWidth}` : '';
  });
  check(`${what}: nothing to scroll sideways`, wide === '', wide);
  check(`${what}: no secret and no token`, !(await page.content()).includes(CANARY), 'there is one');
  const wrong = page.wrong.filter((line) => !but.test(line));
  check(`${what}: nothing to complain of, nothing from elsewhere`, wrong.length === 0, wrong.join('\n'));
}
