// Makes docs/reliability.md: the proofs of tests/it/reliability, as long as they go, and what they found.
//
//     node tests/reliability/run.mjs                 the long form, which takes hours; docs/reliability.md is written
//     node tests/reliability/run.mjs --full          the one of the gate; the page goes to a folder that is named
//     node tests/reliability/run.mjs [--full] NAME   the proofs whose path holds NAME, and no page in docs
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { cpus, release, tmpdir, totalmem } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const root = fileURLToPath(new URL('../..', import.meta.url));
const { values: flags, positionals: [name] } = parseArgs({ allowPositionals: true, options: { full: { type: 'boolean' } } });
const found = mkdtempSync(join(tmpdir(), 'bearerd-reliability-'));

// Optimised, since the loads are some; without the release's link-time optimisation, which takes minutes.
const words = ['test', '--profile', 'bench', '--locked', '--test', 'it', name ?? 'reliability::', '--', '--nocapture', '--test-threads=1'];
const env = { ...process.env, BEARERD_TESTS: flags.full ? 'full' : 'long', BEARERD_REPORT: found };
const [code] = await once(spawn('cargo', words, { cwd: root, env, stdio: 'inherit' }), 'exit');

const number = (text) => text.toLocaleString('en-US');
/** R2 before R10, and R3 before R3b. */
const order = ({ id }) => Number(/\d+/.exec(id)[0]) + (id.match(/[a-z]$/) ? id.charCodeAt(id.length - 1) / 1_000 : 0);
const proofs = readdirSync(found).map((file) => JSON.parse(readFileSync(join(found, file), 'utf8'))).sort((a, b) => order(a) - order(b));
const sum = (key) => number(proofs.reduce((total, proof) => total + proof[key], 0));
const commit = execFileSync('git', ['rev-parse', 'HEAD'], { cwd: root }).toString().trim();
const changed = execFileSync('git', ['status', '--porcelain'], { cwd: root }).toString() === '' ? '' : ', changed';
const cell = (text) => text.replaceAll('|', '\\|');

const section = ({ id, title, seconds, claims, figures }) => `## ${id}: ${title}

| | to hold | found |
|---|--:|--:|
${claims.map(({ what, bar, found: is, holds }) => `| ${cell(what)} | ${bar} | ${holds ? is : `**${is}**`} |`).join('\n')}

${figures.map(([what, is]) => `* ${what}: ${is}`).concat(`* it took ${seconds} s`).join('\n')}
`;

const page = `<!-- Made by \`node tests/reliability/run.mjs${flags.full ? ' --full' : ''}\`. -->

# Nothing lost

bearerd as a process, a provider and an API that fail on purpose, and apps that account for each of their requests: what an app
got is held against what came to the API. A request is lost that got no whole answer of its own and ought to have had one.

| in this run | |
|---|--:|
| requests | ${sum('requests')} |
| **lost** | **${sum('lost')}** |
| tokens renewed | ${sum('renewals')} |
| faults survived: refusals, outages, cuts, rotations | ${sum('faults')} |
| bad inputs | ${sum('bad_inputs')} |
| claims that hold | ${proofs.flatMap(({ claims }) => claims).filter(({ holds }) => holds).length} of ${proofs.flatMap(({ claims }) => claims).length} |

${cpus()[0].model.trim()}, ${cpus().length} cores, ${Math.round(totalmem() / 2 ** 30)} GiB, Linux ${release()}, ${new Date().toISOString().slice(0, 10)}; of ${commit}${changed}.

${proofs.map(section).join('\n')}`;

const isKept = code === 0 && !flags.full && name === undefined;
const path = isKept ? join(root, 'docs/reliability.md') : join(found, 'reliability.md');
writeFileSync(path, page);
console.log(`${path}: ${proofs.length} proofs, ${sum('requests')} requests, ${sum('lost')} lost`);
process.exit(code);
