// Asks /status every two seconds while somebody looks, and shows what it says. Nothing else is asked, nothing is kept.
import * as parts from './parts.js';
import { el, prose, show } from './tree.js';
import * as words from './words.js';

const EVERY = 2000;
/** After this long an answer that has not come counts as none. */
const PATIENCE = 5000;
/** Data of this age is called old even if nothing failed yet. */
const OLD = 8;

/** What bearerd said last, and when (by this browser's clock); `lost` is since when it does not answer. */
let status = null;
let heard = 0;
let lost = null;
let asking = false;
let timer;

const place = (id) => document.getElementById(id);

async function ask() {
  const options = { cache: 'no-store', credentials: 'same-origin', signal: AbortSignal.timeout(PATIENCE) };
  const answer = await fetch('status', options).catch((error) => {
    throw new Error(error.name === 'TimeoutError' ? `no answer within ${PATIENCE / 1000} s` : 'it cannot be reached');
  });
  if (!answer.ok) throw Object.assign(new Error(`it answers ${answer.status}`), { refused: true });
  return answer.json();
}

async function poll() {
  clearTimeout(timer);
  if (document.hidden || asking) return;
  asking = true;
  try {
    const said = await ask();
    // Another bearerd has another page.
    if (status && said.version !== status.version) location.reload();
    status = said;
    heard = Date.now();
    lost = null;
  } catch (error) {
    lost ??= { since: heard || Date.now(), why: error.message, refused: error.refused };
  }
  asking = false;
  draw();
  timer = setTimeout(poll, EVERY);
}

const WORDS = { bad: 'Trouble', warn: 'Look at this', note: 'Under way', ok: 'All well', aside: 'By the way' };
const SHAPES = { bad: 'bad', warn: 'warn', note: 'asking', ok: 'ok', aside: 'none' };
const COLOURS = { bad: '%23c4281c', warn: '%23b56a00', note: '%232a6f97', ok: '%23237a4b' };

function drawVerdict(now) {
  const found = words.verdict(status, lost, now);
  const { level, sentence, todo, also } = found;
  place('verdict').className = `verdict ${level}${found.lost ? ' lost' : ''}`;
  show(place('mark'), parts.icon(SHAPES[level]));
  // Spoken whenever it changes, and only then.
  show(place('sentence'), el('span', { class: 'word' }, WORDS[level]), ' ', prose(sentence));
  show(place('advice'), todo && el('p', {}, prose(todo)), also.length > 0 && el('ul', {}, also.map((one) => el('li', { class: one.level },
    el('span', { class: 'word' }, WORDS[one.level]), ' ', el(one.level === 'aside' ? 'span' : 'b', {}, prose(one.sentence)), ' ', prose(one.todo)))));
  document.title = `${level === 'ok' ? '' : `${WORDS[level]}: `}${sentence.replaceAll('`', '')} – bearerd`;
  const dot = `%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Ccircle cx='8' cy='8' r='7' fill='${COLOURS[level]}'/%3E%3C/svg%3E`;
  const icon = `data:image/svg+xml,${dot}`;
  if (place('icon').href !== icon) place('icon').href = icon;
}

const part = (id, title, aside, ...children) => el('section', { 'data-key': id, 'aria-labelledby': id },
  el('div', { class: 'heading' }, el('h2', { id }, title), aside && el('p', { class: 'soft' }, aside)), children);

function draw() {
  const passed = status ? (Date.now() - heard) / 1000 : 0;
  const now = status ? (Date.parse(status.now) || heard) + passed * 1000 : Date.now();
  drawVerdict(lost ? Date.now() : now);
  const old = lost || passed > OLD;
  place('live').className = old ? 'old' : '';
  show(place('live'), parts.icon(old ? 'warn' : 'ok'),
    status ? `${old ? 'Old' : 'Live'}, ${passed < 1 ? 'just now' : `${words.duration(passed)} ago`}` : 'No data yet');
  if (!status) return;
  show(place('version'), status.version ?? '');
  show(place('parts'),
    part('tokens', 'Tokens', null, parts.tokens(status, now, passed)),
    part('routes', 'Routes', 'The charts show the last 15 minutes; the counts are since the start.', parts.routes(status)),
    part('refused', 'Refused', 'What bearerd answered itself, or turned away.', parts.refused(status, now)),
    part('process', 'This bearerd', null, parts.configuration(status, now)));
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  show(place('foot'),
    el('p', {}, `Times are those of ${zone}; the log’s are UTC, where it is ${new Date(now).toISOString().slice(11, 19)}.`),
    el('p', {}, el('a', { href: 'status' }, 'The same as JSON'), el('a', { href: 'metrics' }, 'Metrics')));
}

document.addEventListener('visibilitychange', poll);
// Between two answers the clock goes on; and a page that was hidden says at once how old it is.
setInterval(() => document.hidden || draw(), 1000);
draw();
poll();
