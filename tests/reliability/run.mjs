// Makes docs/reliability.md: the proofs of tests/it/reliability, as long as they go, and what they found.
//
//     node tests/reliability/run.mjs                 the long form, which takes some two hours; docs/reliability.md is written
//     node tests/reliability/run.mjs --full          the one of the gate; the page goes to a folder that is named
//     node tests/reliability/run.mjs [--full] NAME   the proofs whose path holds NAME
//
// `--in FOLDER` puts what is found to what earlier runs have put there, so that what was mended meanwhile is proven again and
// not everything: of each proof the last counts, and where they are of several commits the page says of which each is.
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { cpus, release, tmpdir, totalmem } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const root = fileURLToPath(new URL('../..', import.meta.url));
const options = { full: { type: 'boolean' }, in: { type: 'string' } };
const { values: flags, positionals: [name] } = parseArgs({ allowPositionals: true, options });
const git = (...words) => execFileSync('git', words, { cwd: root }).toString().trim();
const commit = git('rev-parse', 'HEAD') + (git('status', '--porcelain') === '' ? '' : ', changed');
if (flags.full && flags.in) {
  throw new Error('--in is for the long form: what it keeps is made into docs/reliability.md');
}
const found = flags.in ? resolve(flags.in) : mkdtempSync(join(tmpdir(), 'bearerd-reliability-'));
mkdirSync(join(found, commit), { recursive: true });

/** Those whose figures are times: they have the machine to themselves. */
const alone = ['renewals::a_request_near', 'accounted::cold_start', 'accounted::idle', 'accounted::overload', 'slow_clients::'];
const env = { ...process.env, BEARERD_TESTS: flags.full ? 'full' : 'long', BEARERD_REPORT: join(found, commit) };
/** With debug assertions, without which there are no bugs on purpose (R20). */
const words = ['test', '--profile', 'bench', '--config', 'profile.bench.debug-assertions=true', '--locked', '--test', 'it'];
const run = async (threads, ...filters) => {
  const child = spawn('cargo', [...words, '--', '--nocapture', `--test-threads=${threads}`, ...filters], { cwd: root, env, stdio: 'inherit' });
  const [code] = await once(child, 'exit');
  return code ?? 1;
};
// The others claim nothing of speed, so the hour of one of them is an hour of three.
const codes = name === undefined
  ? [await run(1, ...alone), await run(3, 'reliability::', ...alone.flatMap((one) => ['--skip', one]))]
  : [await run(1, name)];
const code = Math.max(...codes);

const number = (text) => text.toLocaleString('en-US');
/** R3b is the third bar's, R10 the tenth's. */
const parts = (id) => [Number(/\d+/.exec(id)[0]), id.replace(/^R\d+/, '')];
/** R2 before R10, and R3 before R3b. */
const inOrder = ({ id: one }, { id: other }) => parts(one)[0] - parts(other)[0] || parts(one)[1].localeCompare(parts(other)[1]);
// What there is to prove, and no more: a proof may have gone since a run that is kept.
const sources = readdirSync(join(root, 'tests/it/reliability'), { recursive: true }).filter((file) => file.endsWith('.rs'));
const text = sources.map((file) => readFileSync(join(root, 'tests/it/reliability', file), 'utf8')).join();
const named = new Set([...text.matchAll(/Proof::(?:new|skipped)\(\s*"(R\w+)"/g)].map(([, id]) => id));
const folders = readdirSync(found, { withFileTypes: true }).filter((entry) => entry.isDirectory()).map(({ name }) => name);
const ofAll = folders.flatMap((commit) => readdirSync(join(found, commit)).map((file) => {
  const path = join(found, commit, file);
  return { ...JSON.parse(readFileSync(path, 'utf8')), commit, at: statSync(path).mtimeMs };
}));
const newest = new Map(ofAll.sort(({ at: one }, { at: other }) => one - other).map((proof) => [proof.id, proof]));
const kept = [...newest.values()].filter(({ id }) => named.has(id)).sort(inOrder);
const [proofs, skipped] = [kept.filter((proof) => !proof.skipped), kept.filter((proof) => proof.skipped)];
const sum = (key) => number(proofs.reduce((total, proof) => total + proof[key], 0));
const commits = [...new Set(kept.map((proof) => proof.commit))];
const cell = (text) => text.replaceAll('|', '\\|');

const section = ({ id, title, seconds, claims, figures, commit: its }) => `## ${id}: ${title}

| | to hold | found |
|---|--:|--:|
${claims.map(({ what, bar, found: is, holds }) => `| ${cell(what)} | ${bar} | ${holds ? is : `**${is}**`} |`).join('\n')}

${figures.map(([what, is]) => `* ${what}: ${is}`).concat(`* it took ${seconds} s${commits.length > 1 ? `, of ${its.slice(0, 7)}${its.slice(40)}` : ''}`).join('\n')}
`;

/** Where GitHub and its like put a heading. */
const anchor = ({ id, title }) => `#${`${id}: ${title}`.toLowerCase().replace(/[^\w\- ]/g, '').replaceAll(' ', '-')}`;
const line = (proof) => {
  const holding = proof.claims.filter(({ holds }) => holds).length;
  return `| [${proof.id}](${anchor(proof)}) | ${cell(proof.title)} | ${number(proof.requests)} | ${number(proof.lost)} | ${holding} of ${proof.claims.length} |`;
};

const bars = readFileSync(join(root, 'tests/reliability/bars.md'), 'utf8');

/** What other commands have written down, of a commit that they name. */
const recorded = (heading, path, words) => {
  const file = join(root, path);
  return existsSync(file) ? `## ${heading}\n\n${words}\n\n\`\`\`text\n${readFileSync(file, 'utf8').trim()}\n\`\`\`\n` : '';
};

const page = `<!-- Made by \`node tests/reliability/run.mjs${flags.full ? ' --full' : ''}\`. -->

# Nothing lost

bearerd as a process, a provider and an API that fail on purpose, and apps that account for each of their requests: what an app
got is held against what came to the API. A request is lost that got no whole answer of its own and ought to have had one.

| in all | |
|---|--:|
| requests | ${sum('requests')} |
| **lost** | **${sum('lost')}** |
| tokens renewed | ${sum('renewals')} |
| faults survived: refusals, outages, cuts, rotations | ${sum('faults')} |
| bad inputs | ${sum('bad_inputs')} |
| claims that hold | ${proofs.flatMap(({ claims }) => claims).filter(({ holds }) => holds).length} of ${proofs.flatMap(({ claims }) => claims).length} |

${cpus()[0].model.trim()}, ${cpus().length} cores, ${Math.round(totalmem() / 2 ** 30)} GiB, Linux ${release()}, ${new Date().toISOString().slice(0, 10)}; of ${commits.map((commit) => commit.slice(0, 7) + commit.slice(40)).join(', ')}.

| | what happens | requests | lost | claims that hold |
|---|---|--:|--:|--:|
${proofs.map(line).join('\n')}

${proofs.map(section).join('\n')}
## What differs from the bars

${bars}
${recorded('Fuzzing', 'tests/fuzz/results.txt', 'Every parser of what others send ([tests/fuzz](../tests/fuzz/README.md)), without a finding:')}
${recorded('Mutants', 'tests/reliability/mutants.txt', 'Changes that are made to `token/machine` and `wire`, one at a time, and how many the unit tests see ([tests/reliability](../tests/reliability/README.md)):')}`;

const missing = [...named].filter((id) => !newest.has(id));
const broken = proofs.filter(({ claims }) => claims.some(({ holds }) => !holds)).map(({ id }) => id);
for (const { id, skipped: why } of skipped) {
  console.log(`${id} could not be made: ${why}`);
}
const isOfAll = name === undefined || flags.in !== undefined;
if (isOfAll && missing.length > 0) {
  console.log(`no proof of ${missing.join(', ')}`);
}
if (broken.length > 0) {
  console.log(`claims of ${broken.join(', ')} do not hold`);
}
const isWhole = missing.length === 0 && skipped.length === 0 && broken.length === 0;
const isKept = code === 0 && !flags.full && isWhole;
const path = isKept ? join(root, 'docs/reliability.md') : join(found, 'reliability.md');
writeFileSync(path, page);
console.log(`${path}: ${proofs.length} proofs, ${sum('requests')} requests, ${sum('lost')} lost`);
process.exit(isOfAll && !isWhole ? 1 : code);
