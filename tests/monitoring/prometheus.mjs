// A real Prometheus and promtool, from Debian's package, unpacked and not installed; and what the story asks of them.
import { execFile, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import * as debian from '../oidc-provider/debian.mjs';
import { eventually, file, folder, track } from '../oidc-provider/rig.mjs';

const run = promisify(execFile);

/** Fetches and unpacks both. The error of what cannot be had is the reason to skip the rig. */
export async function unpacked() {
  const release = /^VERSION_CODENAME=(\w+)$/m.exec(readFileSync('/etc/os-release', 'utf8'))?.[1];
  const { root } = await debian.unpacked(`prometheus-${release}`, ['prometheus']);
  const [prometheus, promtool] = ['prometheus', 'promtool'].map((name) => join(root, 'usr/bin', name));
  const { stdout } = await run(promtool, ['--version']);
  return { prometheus, promtool, version: stdout.split('\n')[0] };
}

/** Runs promtool; `good` is whether it found nothing wrong, `said` all that it said. */
export function promtool(program, args, input) {
  return new Promise((done) => {
    const child = execFile(program, args, (error, stdout, stderr) => done({ good: !error, said: stdout + stderr }));
    child.stdin.end(input);
  });
}

/** Starts Prometheus, which scrapes `targets` by the job `bearerd` every second and evaluates the rules as often. */
export async function start(program, port, rules, targets) {
  const config = file('prometheus.json', JSON.stringify({
    global: { scrape_interval: '1s', scrape_timeout: '1s', evaluation_interval: '1s' },
    rule_files: [rules],
    scrape_configs: [{ job_name: 'bearerd', static_configs: [{ targets }] }],
  }));
  const child = track(spawn(program, [
    `--config.file=${config}`, `--storage.tsdb.path=${join(folder, 'tsdb')}`, `--web.listen-address=127.0.0.1:${port}`,
  ], { env: { PATH: process.env.PATH }, stdio: ['ignore', 'ignore', 'pipe'] }));
  let said = '';
  child.stderr.on('data', (data) => { said += data; });

  /** One question to its API: the data, or the error as it says it. */
  async function ask(path, parameters = {}) {
    const answer = await fetch(`http://127.0.0.1:${port}/api/v1/${path}?${new URLSearchParams(parameters)}`);
    const { status, data, error } = await answer.json();
    return status === 'success' ? { data } : { error };
  }
  await eventually('Prometheus is ready', 30, async () => {
    if (child.exitCode !== null) throw new Error(`Prometheus ended: ${said}`);
    return (await fetch(`http://127.0.0.1:${port}/-/ready`).catch(() => ({}))).ok;
  });
  return {
    ask,
    /** The series that an expression gives, at one instant or over the last `seconds`. */
    async query(expr, seconds) {
      const now = Date.now() / 1000;
      const { data, error } = seconds === undefined
        ? await ask('query', { query: expr, time: now })
        : await ask('query_range', { query: expr, start: now - seconds, end: now, step: 1 });
      return error === undefined ? { result: data.result } : { error };
    },
    /** The names of the alerts that are pending or firing, or were within the last `seconds`. */
    async alerts(seconds) {
      const { data } = await ask('query', { query: `group by (alertname) (last_over_time(ALERTS[${seconds}s]))` });
      return data.result.map(({ metric }) => metric.alertname).sort();
    },
  };
}
