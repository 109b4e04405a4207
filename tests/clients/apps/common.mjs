// What the Node programs share: where to ask, what to send, and one line a case on standard output.
import { createHash } from 'node:crypto';
import { createReadStream, readFileSync } from 'node:fs';

export const { BASE: ORIGIN, PREFIX, UPLOAD } = process.env;
export const BASE = `${ORIGIN}${PREFIX}`;
export const QUERY = '/get?q=a%2Fb%20c&x=%C3%BC';
export const FORGED = { authorization: 'Bearer forged', 'x-app': 'mine' };
export const sha256 = (data) => createHash('sha256').update(data).digest('hex');
export const upload = () => readFileSync(UPLOAD);
/** The upload in pieces, whose number nobody knows beforehand. */
export const chunks = () => createReadStream(UPLOAD);

export async function run(cases) {
  for (const name of process.env.CASES.split(',')) {
    let outcome;
    try {
      outcome = await cases[name]();
    } catch (error) {
      outcome = `failed: ${error}: ${error.cause ?? ''}`;
    }
    console.log(`${name}\t${String(outcome).replaceAll('\n', ' ')}`);
  }
  process.exit();
}

/** The cases of whatever speaks `fetch`. */
export function byFetch(fetch) {
  const said = async (answer) => `${answer.status} ${await answer.text()}`;
  const asked = async (path, options) => said(await fetch(`${BASE}${path}`, options));
  return {
    get: () => asked(QUERY),
    'own-credential': () => asked(QUERY, { headers: FORGED }),
    head: async () => {
      const answer = await fetch(`${BASE}/get`, { method: 'HEAD' });
      return `${answer.status} ${answer.headers.get('content-length')} ${await answer.text()}`;
    },
    'no-content': () => asked('/thing', { method: 'DELETE' }),
    missing: () => asked('/missing'),
    form: () => asked('/form', { method: 'POST', body: new URLSearchParams({ a: 1, b: 2 }) }),
    upload: () => asked('/upload', { method: 'PUT', body: upload() }),
    chunked: () => asked('/upload', { method: 'POST', body: chunks(), duplex: 'half' }),
    download: async () => {
      const answer = await fetch(`${BASE}/download`);
      return `${answer.status} ${sha256(Buffer.from(await answer.arrayBuffer()))}`;
    },
    gzip: () => asked('/gzip'),
    redirect: () => asked('/redirect'),
    'redirect-absolute': () => asked('/redirect-absolute'),
    range: async () => {
      const answer = await fetch(`${BASE}/range`, { headers: { range: 'bytes=5-9' } });
      return `${await said(answer)} ${answer.headers.get('content-range')}`;
    },
    events: async () => {
      const answer = await fetch(`${BASE}/events`);
      let lines = '';
      for await (const chunk of answer.body) {
        if (lines === '') await asked('/acknowledge');
        lines += Buffer.from(chunk);
      }
      return `${answer.status} ${lines.split('\n').filter(Boolean).join(' ')}`;
    },
    many: async () => {
      const answers = await Promise.all(Array.from({ length: 50 }, () => asked(QUERY)));
      return answers.filter((answer) => answer.startsWith('200 ')).length;
    },
  };
}
