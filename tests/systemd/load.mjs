// Apps that ask all the time, each request by a connection of its own, half of them by 127.0.0.1 and half by ::1.
//
//   node load.mjs PORT
//
// Lasts until standard input ends, and then says in one line of JSON how often which thing happened.
import { request } from 'node:http';

const [port] = process.argv.slice(2);
const APPS = 8;
const seen = {};
let over = false;
process.stdin.resume().on('end', () => { over = true; });

const once = (host) => new Promise((done) => {
  const asked = request({ host, port, path: '/load', agent: false }, (response) => {
    response.resume().on('end', () => done(`${response.statusCode}`)).on('error', (error) => done(`body ${error.code}`));
  });
  asked.on('error', (error) => done(error.code ?? error.message)).end();
});

await Promise.all(Array.from({ length: APPS }, async (_, app) => {
  while (!over) {
    const what = await once(app % 2 === 0 ? '127.0.0.1' : '::1');
    seen[what] = (seen[what] ?? 0) + 1;
  }
}));
console.log(JSON.stringify(seen));
