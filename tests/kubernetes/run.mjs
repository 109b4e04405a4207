// What is in k8s/, without a cluster: rendered by Kustomize and Helm, compared with golden/, held to Kubernetes' types, to its
// Pod Security and to rules of our own, then to the schemas of every version; and the admission policies run by the API
// server's own engine. The checks are Go's tests (*_test.go) and validate.py; this builds what they need and counts.
//
// BLESS=1 renews golden/.
import { execFile, spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { check, folder, tell, track } from '../oidc-provider/rig.mjs';

const run = promisify(execFile);
const HERE = fileURLToPath(new URL('.', import.meta.url));
const CHART = join(HERE, '../../k8s/chart');
const REQUIREMENTS = join(HERE, 'requirements.txt');
// Found again by the next run, of any checkout.
const CACHE = join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'bearerd-rigs');

/** A child's output, line by line, and whether it ended well. */
async function lines(command, args, env, each) {
  const child = track(spawn(command, args, { cwd: HERE, env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'inherit'] }));
  for await (const line of createInterface({ input: child.stdout })) each(line);
  return child.exitCode ?? new Promise((done) => { child.on('exit', done); });
}

/** An interpreter with requirements.txt, in a folder that is named after what is in it. */
async function python() {
  const wanted = readFileSync(REQUIREMENTS, 'utf8').trim();
  const venv = join(CACHE, wanted.replaceAll(/[^\w.=]+/g, '-'));
  const installed = join(venv, 'installed.txt');
  if (!existsSync(installed)) {
    await run('python3', ['-m', 'venv', '--clear', venv]);
    await run(join(venv, 'bin/python'), ['-m', 'pip', 'install', '--quiet', '--no-input', '-r', REQUIREMENTS]);
    writeFileSync(installed, wanted);
  }
  return join(venv, 'bin/python');
}

/** Helm as go.mod pins it; Go builds only what is not in its cache. */
async function helm() {
  const program = join(CACHE, 'helm');
  await run('go', ['build', '-o', program, 'helm.sh/helm/v4/cmd/helm'], { cwd: HERE });
  return program;
}

/** Runs Go's tests, and counts each that has none below it. */
async function goTests(env) {
  const outputs = new Map();
  const parents = new Set();
  const failed = [];
  let other = '';
  const code = await lines('go', ['test', '-count=1', '-json', '.'], env, (line) => {
    const { Action: action, Test: test, Output: output } = JSON.parse(line);
    if (test === undefined) {
      other += output ?? '';
      return;
    }
    if (action === 'run') parents.add(test.slice(0, Math.max(0, test.lastIndexOf('/'))));
    if (action === 'output' && !/^ *(===|---)/.test(output)) outputs.set(test, (outputs.get(test) ?? '') + output);
    const what = test.replace(/^Test(Manifests|Chart)\//, '').replace(/^Test(\w+)/, (_, name) => (
      name.slice(0, 1) + name.slice(1).replaceAll(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`)))
      .replaceAll('/', ': ').replaceAll('_', ' ');
    if (action === 'fail') failed.push(test);
    if (action === 'skip') console.log(`skip  ${what}: ${outputs.get(test)?.trim()}`);
    if (action === 'pass' && !parents.has(test)) check(what, true);
    // A parent has failed already by what is below it, but for what it says itself.
    if (action === 'fail' && (!parents.has(test) || outputs.has(test))) check(what, false, outputs.get(test));
  });
  if (code !== 0 && failed.length === 0) check("Go's tests run", false, other);
}

async function story(python) {
  const rendered = join(folder, 'rendered');
  mkdirSync(rendered);
  await goTests({ HELM: existsSync(CHART) ? await helm() : '', RENDERED: rendered });
  const code = await lines(python, ['validate.py', rendered], {}, (line) => {
    const [verdict, what, detail] = line.split('\t');
    check(what, verdict === 'ok', detail);
  });
  check('validate.py came to its end', code === 0, `exit code ${code}`);
}

let interpreter;
try {
  await run('go', ['mod', 'download'], { cwd: HERE });
  interpreter = await python();
} catch (error) {
  const why = (error.stderr?.trim() || error.message).split('\n').at(-1);
  console.log(`skipped: what the checks need cannot be fetched (${why})`);
  process.exit(0);
}
await tell(() => story(interpreter));
