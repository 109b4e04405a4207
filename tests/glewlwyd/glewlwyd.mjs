// Debian's glewlwyd. Its own admin API makes the client and the token plugin.
import { execFile, spawn } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import * as debian from '../oidc-provider/debian.mjs';
import { curl, eventually, file, folder, track } from '../oidc-provider/rig.mjs';

const run = promisify(execFile);

/** The release whose behaviour this rig is written for. */
const VERSION = '2.7.5';
// With the libraries that a Debian without it does not have; what is installed as well is none the worse.
const PACKAGES = [
  `glewlwyd=${VERSION}*`, 'glewlwyd-common', 'libcbor0.8', 'libconfig9', 'libcurl3-gnutls', 'libhoel1.4',
  'libiddawc1.1', 'libjansson4', 'libldap-2.5-0', 'libmariadb3', 'libmicrohttpd12', 'liboath0', 'liborcania2.3',
  'libpq5', 'librhonabwy1.1', 'libsqlite3-0', 'libulfius2.7', 'libyder2.0',
];

/** Fetches and unpacks it. The error of one that cannot be had is the reason to skip the rig. */
export async function unpacked() {
  const { root, env } = await debian.unpacked(`glewlwyd-${VERSION}`, PACKAGES);
  const { stdout } = await run(join(root, 'usr/bin/glewlwyd'), ['--version'], { env }).catch((error) => error);
  if (!stdout?.includes(VERSION)) throw new Error(`glewlwyd ${VERSION} does not start here`);
  return { root, env };
}

/** Starts it with TLS on loopback; its state is gone with the test. */
export async function start({ root, env }, { port, cert, key, caFile, life }) {
  const base = `https://127.0.0.1:${port}`;
  const issuer = `${base}/api/oidc`;
  const database = join(folder, 'glewlwyd.db');
  const schema = readFileSync(join(root, 'usr/share/dbconfig-common/data/glewlwyd/install/sqlite3'), 'utf8');
  const made = run('sqlite3', [database]);
  made.child.stdin.end(schema);
  await made;
  mkdirSync(join(folder, 'empty'));
  const modules = (name) => join(root, 'usr/lib/glewlwyd', name);
  const config = file('glewlwyd.conf', `
port = ${port}
bind_address = "127.0.0.1"
external_url = "${base}"
login_url = "login.html"
api_prefix = "api"
log_mode = "console"
log_level = "INFO"
cookie_domain = "127.0.0.1"
cookie_secure = 1
session_expiration = 2419200
session_key = "session"
admin_scope = "g_admin"
profile_scope = "g_profile"
user_module_path = "${modules('user')}"
user_middleware_module_path = "${join(folder, 'empty')}"
client_module_path = "${modules('client')}"
user_auth_scheme_module_path = "${modules('scheme')}"
plugin_module_path = "${modules('plugin')}"
use_secure_connection = true
secure_connection_key_file = "${file('glewlwyd.key', key)}"
secure_connection_pem_file = "${file('glewlwyd.pem', cert)}"
hash_algorithm = "SHA512"
database = { type = "sqlite3" path = "${database}" };
`);
  let said = '';
  const child = track(spawn(join(root, 'usr/bin/glewlwyd'), [`--config-file=${config}`], { env }));
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (data) => { said += data; });

  const jar = join(folder, 'jar');
  /** Asks the admin API, with the session of the cookie jar. */
  async function admin(method, path, body) {
    const { stdout, stderr } = await curl('--cacert', caFile, '-b', jar, '-c', jar, '-X', method,
      '-H', 'Content-Type: application/json', '-d', JSON.stringify(body), '-w', '%{http_code}', `${base}/api${path}`);
    if (!stdout.endsWith('200')) throw new Error(`glewlwyd: ${method} ${path}: ${stdout} ${stderr}`);
  }
  // The one that comes with the schema.
  const login = { username: 'admin', password: 'password' };
  await eventually('glewlwyd takes the admin', 20, () => admin('POST', '/auth/', login).then(() => true, () => false));

  const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const on = (...names) => Object.fromEntries(names.map((name) => [name, true]));
  await admin('POST', '/mod/plugin/', {
    module: 'oidc',
    name: 'oidc',
    display_name: 'oidc',
    parameters: {
      iss: issuer,
      'jwt-type': 'rsa',
      'jwt-key-size': '256',
      key: privateKey.export({ type: 'pkcs8', format: 'pem' }),
      cert: publicKey.export({ type: 'spki', format: 'pem' }),
      'access-token-duration': life,
      'refresh-token-duration': 1_209_600,
      'code-duration': 600,
      ...on('refresh-token-rolling', 'allow-non-oidc', 'auth-type-client-enabled', 'auth-type-code-enabled',
        'auth-type-token-enabled', 'auth-type-id-token-enabled', 'auth-type-refresh-enabled', 'jwks-show'),
    },
  });
  await admin('POST', '/scope/', { name: 'reports', display_name: 'reports', password_required: false, scheme: {} });

  const described = (id, secret) => ({
    client_id: id,
    name: id,
    client_secret: secret,
    confidential: true,
    enabled: true,
    authorization_type: ['client_credentials'],
    token_endpoint_auth_method: ['client_secret_basic'],
    redirect_uri: [],
    scope: ['reports'],
  });
  return {
    issuer,
    output: () => said,
    add: (id, secret) => admin('POST', '/client/', described(id, secret)),
    change: (id, secret) => admin('PUT', `/client/${id}`, described(id, secret)),
  };
}
