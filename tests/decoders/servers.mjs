// The servers behind bearerd: nginx and Apache with the same tree of files, in the set-ups that decode a path most
// differently, and a recorder that only notes which bytes arrive. Each server says in a log of its own what it got.
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import { promisify } from 'node:util';
import * as debian from '../oidc-provider/debian.mjs';
import { eventually, file, folder, freePorts, track } from '../oidc-provider/rig.mjs';

const run = promisify(execFile);

const PACKAGES = ['nginx', 'apache2-bin', 'libapr1', 'libaprutil1', 'libpcre2-8-0'];

/** Fetches and unpacks both. The error of what cannot be had is the reason to skip the rig. */
export async function unpacked() {
  const release = /^VERSION_CODENAME=(\w+)$/m.exec(readFileSync('/etc/os-release', 'utf8'))?.[1];
  const { root, env } = await debian.unpacked(`decoders-${release}`, PACKAGES);
  const programs = { nginx: join(root, 'usr/sbin/nginx'), apache: join(root, 'usr/sbin/apache2') };
  for (const [name, program] of Object.entries(programs)) {
    const { stdout = '', stderr = '' } = await run(program, ['-v'], { env }).catch((error) => error);
    if (!/version: (nginx|Apache)\//.test(stdout + stderr)) throw new Error(`${name} does not start here`);
  }
  return { ...programs, modules: join(root, 'usr/lib/apache2/modules'), env };
}

export const SECRET = 'a SECRET file';
export const PUBLIC = 'a PUBLIC file';

/** Lays out the files: below /public they say PUBLIC, everywhere else SECRET. */
function layOut(tree) {
  for (const path of [
    'index.html', 'secret', 'secret.', 'admin/secret', 'public.txt', 'publicx/a.txt', 'x/public/a.txt',
    'PUBLIC/a.txt', 'Public/a.txt', 'public;x=1/a.txt', 'public /a.txt',
    'public/index.html', 'public/a.txt', 'public/a b', 'public/dir/b.txt', 'public/secret', 'public/public/a.txt',
    'public/café', 'public/~user', 'public/.hidden', 'public/..a', 'public/a..', 'public/a;v=1', 'public/%zz',
    'public/a%20b', 'public/100%', 'public/#general:example.org', 'public/a?b', 'public/Orders(\'1\')/Items',
  ]) {
    mkdirSync(join(tree, path, '..'), { recursive: true });
    writeFileSync(join(tree, path), `${path.startsWith('public/') ? PUBLIC : SECRET}\n`);
  }
  return tree;
}

/** Starts them all. Each has a name, a port, and `got`: after `stop`, what arrived, by the number in X-Row. */
export async function start({ nginx, apache, modules, env }) {
  const names = ['nginx', 'nginx-alias', 'nginx-proxy', 'nginx-twice', 'apache', 'apache-proxy', 'apache-rewrite'];
  const ports = await freePorts(names.length);
  const servers = names.map((name, i) => ({ name, port: ports[i], log: join(folder, `${name}.log`) }));
  const port = Object.fromEntries(servers.map(({ name, port }) => [name, port]));
  const log = Object.fromEntries(servers.map(({ name, log }) => [name, log]));
  const tree = layOut(join(folder, 'tree'));
  // What the proxies among them have behind: a server that decodes once more.
  const behind = join(folder, 'behind');
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'];

  // `escape=none`, since byte for byte is the question.
  const nginxConfig = file('nginx.conf', `
daemon off;
master_process off;
pid ${join(folder, 'nginx.pid')};
error_log ${join(folder, 'nginx-error.log')};
events {}
http {
  ${temporary.map((what) => `${what}_temp_path ${join(folder, `nginx-${what}`)};`).join('\n  ')}
  log_format row escape=none '$http_x_row $request_method $request_uri $server_protocol';
  access_log off;
  large_client_header_buffers 4 256k;
  root ${tree};
  upstream behind { server unix:${behind}; }
  server {
    listen 127.0.0.1:${port.nginx};
    access_log ${log.nginx} row;
  }
  server {
    # Without a slash behind the location, which is a mistake that many have made.
    listen 127.0.0.1:${port['nginx-alias']};
    access_log ${log['nginx-alias']} row;
    location /public { alias ${tree}/public/; }
  }
  server {
    # With a path in proxy_pass nginx sends on what it has decoded, cleaned up and encoded anew.
    listen 127.0.0.1:${port['nginx-proxy']};
    access_log ${log['nginx-proxy']} row;
    merge_slashes off;
    location / { proxy_pass http://behind/; }
  }
  server {
    # With a variable it sends on what it has decoded as it is, to be decoded once more.
    listen 127.0.0.1:${port['nginx-twice']};
    access_log ${log['nginx-twice']} row;
    location / { proxy_pass http://behind$uri; }
  }
  server {
    listen unix:${behind};
  }
}
`);

  // As root it gives that up, and must be able to read its files then.
  const isRoot = process.getuid() === 0;
  if (isRoot) chmodSync(folder, 0o711);
  const load = ['mpm_event', 'authz_core', 'dir', 'rewrite', 'proxy', 'proxy_http'];
  const host = (name, more) => `
Listen 127.0.0.1:${port[name]}
<VirtualHost 127.0.0.1:${port[name]}>
  CustomLog ${log[name]} row
  AllowEncodedSlashes On
  ${more}
</VirtualHost>`;
  const apacheConfig = file('apache.conf', `
${load.map((module) => `LoadModule ${module}_module ${join(modules, `mod_${module}.so`)}`).join('\n')}
ServerRoot ${folder}
ServerName localhost
DefaultRuntimeDir ${folder}
PidFile ${join(folder, 'apache.pid')}
ErrorLog ${join(folder, 'apache-error.log')}
LogFormat "%{X-Row}i %r" row
${isRoot ? 'User nobody\nGroup nogroup' : ''}
HttpProtocolOptions Unsafe
LimitRequestLine 262144
DocumentRoot ${tree}
DirectoryIndex index.html
<Directory ${tree}>
  Require all granted
</Directory>
${host('apache', '')}
${host('apache-proxy', `ProxyPass / "unix:${behind}|http://localhost/"`)}
${host('apache-rewrite', `
  # What it has decoded is not encoded anew, and an encoded question mark begins a query.
  RewriteEngine On
  RewriteRule ^/(.*)$ "unix:${behind}|http://localhost/$1" [P,NE,UnsafeAllow3F]`)}
`);

  const ends = [];
  for (const [program, args, signal] of [
    [nginx, ['-c', nginxConfig], 'SIGQUIT'],
    // One process, so that none is left behind when it is killed.
    [apache, ['-X', '-f', apacheConfig], 'SIGTERM'],
  ]) {
    const child = track(spawn(program, args, { env, stdio: ['ignore', 'pipe', 'pipe'] }));
    let said = '';
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (data) => { said += data; });
    const ended = once(child, 'close');
    ends.push(async () => {
      child.kill(signal);
      await ended;
    });
    await Promise.race([
      ended.then(() => { throw new Error(`${program} ended: ${said}`); }),
      eventually(`${program} listens`, 20, () => listens(port[program === nginx ? 'nginx' : 'apache'])),
    ]);
  }

  const recorder = { name: 'recorder', got: new Map() };
  recorder.port = await record(recorder.got);
  return {
    all: [...servers, recorder],
    /** Ends them, and reads what their logs say. */
    async stop() {
      await Promise.all(ends.map((end) => end()));
      for (const server of servers) server.got = read(server);
    },
  };
}

/** Whether somebody takes connections there. */
export function listens(port) {
  return new Promise((done) => {
    const socket = connect(port, '127.0.0.1', () => done(true)).on('error', () => done(false));
    socket.on('connect', () => socket.destroy());
  });
}

/** The request lines in a server's log, by row. What came without a row is nobody's. */
function read({ name, log }) {
  const got = new Map();
  for (const line of readFileSync(log, 'latin1').split('\n')) {
    const [, row, request] = /^(\S+) (.*)$/.exec(line) ?? [];
    if (row !== undefined) got.set(row, name.startsWith('apache') ? unescaped(request) : request);
  }
  return got;
}

/** Apache writes backslashes, quotation marks and what is not printable with a backslash. */
function unescaped(request) {
  const byte = (_, hex, plain) => (hex ? String.fromCharCode(parseInt(hex, 16)) : plain);
  return request.replace(/\\(?:x(..)|(.))/g, byte);
}

/** A server that notes request lines by row, and says no more than that it did. */
async function record(got) {
  const server = createServer((socket) => {
    let head = '';
    socket.on('error', () => {}).on('data', (data) => {
      head += data.toString('latin1');
      const row = /\r\nx-row: (\S+)\r\n(?:.+\r\n)*\r\n/i.exec(head)?.[1];
      if (row === undefined) return;
      got.set(row, head.slice(0, head.indexOf('\r\n')));
      socket.end('HTTP/1.1 200 OK\r\nContent-Length: 8\r\nConnection: close\r\n\r\nrecorded');
    });
  }).listen(0, '127.0.0.1');
  server.unref();
  await once(server, 'listening');
  return server.address().port;
}
