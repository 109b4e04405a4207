// deploy/systemd and the Debian package on a machine with a systemd of its own: everything that deploy/README.md tells a
// reader to do, in its own words, with a provider and an API at the other end of the machine's network; and what the units
// promise: no app is refused during a restart, what hangs or dies comes back, what is wrong stays down, and nothing is left
// behind.
//
// BEARERD names the binary; DEB the package that was made of it. README.md says how to get them.
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { certificates, check, eventually, folder, tell } from '../oidc-provider/rig.mjs';
import { boot, lacking } from './machine.mjs';
import { commands, configured, left, pieces } from './readme.mjs';

const at = (path) => fileURLToPath(new URL(path, import.meta.url));
const { BEARERD = at('../../target/debug/bearerd'), DEB } = process.env;
// A unit names what it starts from the root.
const BINARY = resolve(BEARERD);
const UNITS = at('../../deploy/systemd');
// The first that judges a unit which is not installed is 250; what the units say was run with this one.
const OLDEST = 252;
// systemd-analyze counts in tenths.
const MOST_EXPOSED = 15;
const FIRST = 'the first secret';
const SECOND = 'the second secret';

const run = (command, args, options = {}) => promisify(execFile)(command, args, { maxBuffer: 1 << 26, ...options })
  .then(({ stdout, stderr }) => ({ code: 0, said: stdout + stderr }), ({ code, stdout = '', stderr = '', message }) => (
    { code, said: stdout + stderr || message }));

/** Every unit, alone and with each piece that the page has for it, as systemd-analyze sees it. */
async function analyze() {
  const units = (name) => {
    const at = join(folder, name);
    mkdirSync(at);
    // The binary's place is a matter of the machine.
    const written = readFileSync(join(UNITS, 'bearerd.service'), 'utf8');
    const service = written.replace('ExecStart=bearerd ', `ExecStart=${BINARY} `);
    for (const unit of ['bearerd.service', 'bearerd@.service']) writeFileSync(join(at, unit), service);
    cpSync(join(UNITS, 'bearerd.socket'), join(at, 'bearerd.socket'));
    mkdirSync(join(at, 'bearerd@.service.d'));
    cpSync(join(UNITS, 'instance.conf'), join(at, 'bearerd@.service.d', 'instance.conf'));
    return at;
  };
  const judged = async (what, at, names) => {
    const env = { ...process.env, SYSTEMD_UNIT_PATH: `${at}:` };
    const files = names.map((name) => join(at, name));
    const verified = await run('systemd-analyze', ['verify', '--man=no', ...files], { env });
    check(`${what}: systemd-analyze finds nothing wrong`, verified.code === 0 && verified.said === '', verified.said);
    for (const name of names.filter((name) => name.endsWith('.service'))) {
      const args = ['security', '--offline=true', `--threshold=${MOST_EXPOSED}`, join(at, name.replace('@one', '@'))];
      const { code, said } = await run('systemd-analyze', args, { env });
      const level = /exposure level for .*: (\S+)/.exec(said)?.[1];
      const good = code === 0 && level !== undefined;
      check(`${what}: ${name} is exposed by ${level}, at most ${MOST_EXPOSED / 10}`, good, said);
    }
  };
  await judged('the units', units('units'), ['bearerd.service', 'bearerd@one.service', 'bearerd.socket']);
  for (const [i, { unit, where, text }] of pieces().entries()) {
    const at = units(`piece-${i}`);
    mkdirSync(join(at, `${unit}.d`), { recursive: true });
    writeFileSync(join(at, `${unit}.d`, 'piece.conf'), text);
    await judged(`${unit} with what stands in "${where}"`, at, [unit]);
  }
}

/** The provider and the API; `seen` is what came to them. */
async function world(machine, { key, cert }) {
  const seen = [];
  const child = machine.inNetwork(process.execPath, at('world.mjs'), JSON.stringify({ key, cert, secret: FIRST }));
  createInterface({ input: child.stdout }).on('line', (line) => seen.push(JSON.parse(line)));
  await eventually('the world listens', 10, () => seen.some((one) => one.at === 'world'));
  return {
    seen,
    last: (place) => seen.findLast((one) => one.at === place),
    /** Another secret counts; with `revoke` no token counts that was granted before. */
    async expect(secret, { revoke = false } = {}) {
      const before = seen.length;
      child.stdin.write(`${JSON.stringify({ secret, revoke })}\n`);
      await eventually('another secret counts', 5, () => seen.slice(before).some((one) => one.at === 'secret'));
    },
  };
}

/** Apps that ask all the time, while `during` lasts; what became of their requests, by how often. */
async function underLoad(machine, port, during) {
  const child = machine.inNetwork(process.execPath, at('load.mjs'), `${port}`);
  let said = '';
  child.stdout.on('data', (data) => { said += data; });
  await sleep(500);
  await during();
  await sleep(500);
  child.stdin.end();
  await once(child, 'close');
  return JSON.parse(said);
}

/** What `systemctl show` says of a unit. */
async function shown(machine, unit) {
  const text = await machine.must(`systemctl show '${unit}'`);
  return Object.fromEntries([...text.matchAll(/^(\w+)=(.*)$/gm)].map(([, name, value]) => [name, value]));
}

const becomes = (machine, unit, state, seconds = 20) => eventually(`${unit} becomes ${state}`, seconds, async () => {
  const now = await shown(machine, unit);
  return now.ActiveState === state ? now : undefined;
}).catch(async (error) => {
  const { said } = await machine.run(`systemctl status '${unit}' --no-pager; journalctl -u '${unit}' -n 20 --no-pager`);
  throw new Error(`${error.message}\n${said}`);
});

/** Runs a block of the page, which has to succeed, and counts it. */
async function told(machine, heading, { index = 0, input, where = '/root' } = {}) {
  const { code, stdout, said } = await machine.run(`cd ${where}\n${commands(heading, index)}`, input);
  const journal = code === 0 ? '' : (await machine.run('journalctl -n 12 --no-pager -o cat')).stdout;
  check(`the page: ${heading}${index > 0 ? `, ${index + 1}` : ''}`, code === 0, `${said}\n${journal}`);
  return stdout;
}

/** Everything on the machine that is called after bearerd. */
const traces = (machine) => machine.must('find / -xdev -name "*bearerd*" -not -path "/srv/*" -not -path "/proc/*" | sort');

async function byHand(machine) {
  const before = await traces(machine);
  await told(machine, 'Without the package', { where: '/srv/rig' });
  const verified = await machine.run('systemd-analyze verify --man=no bearerd.service bearerd.socket bearerd@one.service');
  check('by hand: systemd takes the units where they are', verified.code === 0 && verified.said === '', verified.said);
  await told(machine, 'Without the package', { index: 1 });
  const after = await traces(machine);
  check('by hand: nothing is left of it', after === before, after);
  return before;
}

async function installed(machine) {
  await told(machine, 'Debian package', { where: '/srv/rig' });
  const failed = await machine.must('systemctl list-units --failed --plain --no-legend');
  check('the package: nothing has failed after it', failed === '', failed);
  for (const unit of ['bearerd.service', 'bearerd.socket']) {
    const { ActiveState, UnitFileState } = await shown(machine, unit);
    const is = `${ActiveState} ${UnitFileState}`;
    check(`the package: ${unit} is neither on nor enabled`, is === 'inactive disabled', is);
  }
  const { code } = await machine.run('systemctl start bearerd.service bearerd.socket');
  const { ActiveState, ConditionResult } = await shown(machine, 'bearerd.service');
  const is = `${code} ${ActiveState} ${ConditionResult}`;
  check('the package: without a configuration a start is left out, and is no failure', is === '0 inactive no', is);
  const verified = await machine.run('systemd-analyze verify --man=no bearerd.service bearerd.socket bearerd@one.service');
  check('the package: systemd takes its units', verified.code === 0 && verified.said === '', verified.said);
  const example = await machine.run('export CREDENTIALS_DIRECTORY=/tmp/credentials; mkdir /tmp/credentials; ' +
    'echo x > /tmp/credentials/client-secret; bearerd check --config /etc/bearerd/config.example.yaml');
  check('the package: its example of a configuration is one', example.code === 0, example.said);
  const page = await machine.run('man bearerd | head -5; ls /usr/share/bash-completion/completions/bearerd');
  check('the package: the manual page is found', /BEARERD/i.test(page.stdout), page.said);
}

const asNobody = (machine, command) => machine.run(`setpriv --reuid=nobody --clear-groups ${command}`);

/** What the service is, seen from outside and from within. */
async function confined(machine) {
  const { MainPID, Type, NotifyAccess, WatchdogUSec } = await shown(machine, 'bearerd.service');
  const is = `${Type} ${NotifyAccess} ${WatchdogUSec}`;
  check('it tells systemd that it is there, and is watched', is === 'notify main 30s', is);
  const status = await machine.must(`cat /proc/${MainPID}/status /proc/${MainPID}/limits`);
  const field = (name) => new RegExp(`^${name}:?\\s+(\\S+)`, 'm').exec(status)?.[1];
  const user = Number(field('Uid'));
  check('its user is one of systemd, for the time', user >= 61_184 && user <= 65_519, user);
  const caps = ['CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb'].map(field);
  check('it has no capability, and can get none', caps.every((cap) => /^0+$/.test(cap)), caps);
  check('it has no new privileges', field('NoNewPrivs') === '1', field('NoNewPrivs'));
  check('its system calls are filtered', field('Seccomp') === '2', field('Seccomp'));
  check('it dumps no core', field('Max core file size') === '0', field('Max core file size'));
  const within = (script) => machine.run(`nsenter -t ${MainPID} -m sh -c '${script}'`);
  for (const path of ['/usr/x', '/etc/bearerd/x', '/var/x', '/srv/x']) {
    const { said } = await within(`touch ${path}`);
    check(`${path} cannot be written from within`, /Read-only file system/.test(said), said);
  }
  const home = await within('ls -A /home /root');
  check('it sees nobody’s home', home.code === 0 && !home.stdout.includes('notes.txt'), home.said);
  const devices = await within('ls /dev');
  check('it sees no disks', !/^sda$/m.test(devices.stdout) && /^null$/m.test(devices.stdout), devices.said);
  const files = '/etc/credstore /etc/credstore/bearerd.client-secret /etc/bearerd/config.yaml';
  const own = await machine.must(`stat -c %a:%U ${files}`);
  check('the secret is for root, the configuration for all', own === '700:root\n600:root\n644:root', own);
  const other = await asNobody(machine, 'cat /run/credentials/bearerd.service/client-secret');
  check('its copy of the secret is for nobody else', other.code !== 0 && /denied/.test(other.said), other.said);
  const log = await machine.must('journalctl -b --no-pager');
  check('no secret is in the journal', !log.includes(FIRST), 'it is');
}

async function restarts(machine, { seen, last, expect }) {
  const before = await shown(machine, 'bearerd.service');
  const counts = await underLoad(machine, 4280, async () => {
    await expect(SECOND);
    await told(machine, 'Another secret', { input: `${SECOND}\n` });
    for (let i = 0; i < 5; i += 1) {
      await sleep(300);
      await machine.must('systemctl restart bearerd');
    }
  });
  const after = await shown(machine, 'bearerd.service');
  check('six restarts are six', before.MainPID !== after.MainPID && after.NRestarts === '0', after.NRestarts);
  check('the new secret counts', last('provider').granted === true, JSON.stringify(last('provider')));
  check(`no request of ${counts['200']} was refused or lost in them`, all(counts), JSON.stringify(counts));
  const tokenless = seen.filter(({ at, authorization }) => at === 'api' && !/^Bearer token-/.test(authorization));
  check('every request that arrived had a token', tokenless.length === 0, JSON.stringify(tokenless[0]));

  // Were one refused, it would be seen. (A restart is too short to be sure of one.)
  await machine.must('systemctl stop bearerd.socket; systemctl restart bearerd');
  const pause = 'systemctl stop bearerd; sleep 3; systemctl start bearerd';
  const without = await underLoad(machine, 4280, () => machine.must(pause));
  check('without the socket unit some are refused', without.ECONNREFUSED > 0, JSON.stringify(without));
  await machine.must('systemctl stop bearerd; systemctl start bearerd.socket bearerd');
}

/** Whether all that was asked under load was answered, and there was something. */
const all = (counts) => counts['200'] > 20 && Object.keys(counts).length === 1;

/** Waits for an event in the journal of a unit. */
const journalled = (machine, event) => eventually(`the journal tells of ${event}`, 10, async () => (
  (await machine.must('journalctl -u bearerd')).includes(`"event":"${event}"`)));

async function reloads(machine, configuration) {
  const before = await shown(machine, 'bearerd.service');
  await machine.must('cat > /etc/bearerd/config.yaml', `${configuration}log: {level: debug}\n`);
  const said = await told(machine, 'Another configuration');
  await journalled(machine, 'reloaded');
  const after = await shown(machine, 'bearerd.service');
  const goesOn = before.MainPID === after.MainPID && after.ActiveState === 'active';
  check('a reload is read, and the process goes on', goesOn, said);
  await machine.must('echo "nonsense: true" > /etc/bearerd/config.yaml && systemctl reload bearerd');
  await journalled(machine, 'reload_refused');
  const curl = await machine.run('curl -fsS http://localhost:4280/orders/8');
  check('one that is wrong changes nothing', curl.code === 0 && /orders/.test(curl.stdout), curl.said);
  await machine.run('systemctl restart bearerd');
  const wrong = await becomes(machine, 'bearerd.service', 'failed');
  await sleep(1_500);
  const still = await shown(machine, 'bearerd.service');
  const is = `${wrong.ExecMainStatus} ${still.NRestarts} ${still.ActiveState}`;
  check('a start with one that is wrong fails, and is not tried again', is === '78 0 failed', is);
  const why = await machine.must('journalctl -u bearerd -n 20');
  check('and the journal says why', why.includes('nonsense'), why);
  await machine.must('cat > /etc/bearerd/config.yaml', configuration);
  await machine.must('systemctl reset-failed bearerd && systemctl start bearerd.socket bearerd');
}

async function survives(machine) {
  const killed = await shown(machine, 'bearerd.service');
  await machine.must(`kill -KILL ${killed.MainPID}`);
  await eventually('it is started anew', 10, async () => {
    const { ActiveState, MainPID } = await shown(machine, 'bearerd.service');
    return ActiveState === 'active' && MainPID !== '0' && MainPID !== killed.MainPID;
  });
  check('one that dies is started anew', true);
  // Half a minute is too long to wait for here.
  const soon = '/run/systemd/system/bearerd.service.d/soon.conf';
  const renewed = 'systemctl daemon-reload; systemctl restart bearerd';
  await machine.must(`install -D -m 0644 /dev/stdin ${soon}; ${renewed}`, '[Service]\nWatchdogSec=2s\n');
  await sleep(5_000);
  const lively = await shown(machine, 'bearerd.service');
  const lives = `${lively.ActiveState} ${lively.NRestarts}`;
  check('one that lives is not taken for one that hangs', lives === 'active 0', lives);
  await machine.must(`kill -STOP ${lively.MainPID}`);
  await eventually('one that hangs is started anew', 20, async () => {
    const { ActiveState, MainPID, NRestarts } = await shown(machine, 'bearerd.service');
    return ActiveState === 'active' && NRestarts === '1' && MainPID !== lively.MainPID;
  });
  const log = await machine.must('journalctl -u bearerd --no-pager');
  check('one that hangs is started anew, by the watchdog', /Watchdog timeout/.test(log), log);
  await machine.must(`rm ${soon}; ${renewed}`);
}

async function ends(machine) {
  const { MainPID } = await shown(machine, 'bearerd.service');
  await machine.must('systemctl stop bearerd.socket bearerd.service');
  const { Result, ExecMainStatus, ExecMainCode } = await shown(machine, 'bearerd.service');
  const is = `${Result} ${ExecMainCode} ${ExecMainStatus}`;
  check('a stop ends with 0', is === 'success 1 0', is);
  const gone = await machine.run(`ls -d /proc/${MainPID} /run/bearerd /run/credentials/bearerd.service`);
  check('and leaves no process, socket or secret', gone.stdout === '', gone.stdout);
  await machine.must('systemctl start bearerd.socket bearerd.service');
}

/** An app's request on the machine. */
const asks = (machine, what) => machine.run(`curl -fsS --max-time 20 ${what}`);

async function encrypted(machine) {
  await told(machine, 'Another secret', { index: 1, input: `${SECOND}\n` });
  const stored = await machine.run('cat /etc/credstore.encrypted/bearerd.client-secret; ls /etc/credstore');
  check('a secret that is encrypted is nowhere in clear', stored.code === 0 && !/secret/.test(stored.said), stored.said);
  const { code, said } = await asks(machine, 'http://localhost:4280/orders/7');
  check('and serves all the same', code === 0, said);
  const put = 'install -m 0600 /dev/stdin /etc/credstore/bearerd.client-secret';
  const undo = 'rm /etc/systemd/system/bearerd.service.d/encrypted.conf; systemctl daemon-reload';
  await machine.must(`${put}; ${undo}`, `${SECOND}\n`);
}

async function socketForAGroup(machine, configuration) {
  await machine.must('cat > /etc/bearerd/config.yaml', configured(configuration, 'A unix socket for a group'));
  const answer = await told(machine, 'A unix socket for a group');
  check('the unix socket leads to the API', answer.includes('{"path":"/orders/7"}'), answer);
  await machine.must('useradd --system --groups reports one; useradd --system other');
  const as = (user) => machine.run(`setpriv --reuid=${user} --regid=${user} --init-groups curl -fsS --unix-socket ` +
    '/run/reports.sock http://localhost/orders/7');
  const [one, other] = [await as('one'), await as('other')];
  check('a user of the group may use it', one.code === 0, one.said);
  check('and nobody else', other.code === 7, `${other.code} ${other.said}`);
  // Which is looked for in what the machine has besides its files, too; a static binary does not survive that.
  const unknown = 'listen: {address: "unix:/tmp/x.sock", group: nobody-has-it}\nadmin: off\nroutes: [{upstream: ' +
    '"https://api.example.com", token: none}]\n';
  const ended = await machine.run('cat > /tmp/unknown.yaml; bearerd run --config /tmp/unknown.yaml', unknown);
  const is = ended.code === 78 && /no group is called/.test(ended.said);
  check('a group that is not there is told of', is, `${ended.code} ${ended.said}`);
  await machine.must('systemctl restart bearerd');
  const again = await as('one');
  check('it outlives a restart', again.code === 0, again.said);
}

async function anotherInstance(machine, { seen }) {
  const answer = await told(machine, 'Several instances', { input: `${SECOND}\n` });
  check('the second instance serves', answer.includes('{"path":"/invoices/7"}'), answer);
  check('with a secret of its own', seen.some(({ client, granted }) => client === 'billing' && granted), '');
  const [one, other] = [await shown(machine, 'bearerd.service'), await shown(machine, 'bearerd@billing.service')];
  const users = await machine.must(`stat -c %u /proc/${one.MainPID} /proc/${other.MainPID}`);
  check('the two have users of their own', new Set(users.split('\n')).size === 2, users);
}

async function logs(machine, configuration) {
  await machine.must('cat > /etc/bearerd/config.yaml', configured(
    configured(configuration, 'A unix socket for a group'), 'Access log and state'));
  await told(machine, 'Access log and state');
  // Lines are gathered for a moment.
  const read = 'tail -n 1 /var/log/bearerd/access.log';
  const line = await eventually('the access log has a line', 5, () => machine.must(read));
  check('the access log has the request', JSON.parse(line).path === '/orders/7', line);
  const modes = await machine.must('stat -L -c %a /var/log/bearerd /var/log/bearerd/access.log /var/lib/bearerd');
  check('it and the state are for root and the service alone', modes === '750\n640\n700', modes);
  if ((await machine.run('command -v logrotate')).code !== 0) {
    console.log('skipped: the rotation (logrotate is not installed)');
    return;
  }
  const rotated = await machine.run('logrotate --force /etc/logrotate.d/bearerd');
  await sleep(1_100);
  await asks(machine, 'http://localhost:4280/orders/9');
  const now = await eventually('there is a new log', 5, async () => {
    const { stdout } = await machine.run('cat /var/log/bearerd/access.log');
    return stdout.includes('/orders/9') && stdout;
  });
  const old = await machine.must('cat /var/log/bearerd/access.log.1');
  const is = rotated.code === 0 && old.includes(line) && !now.includes(line);
  check('logrotate moves it, and the next line is in a new one', is, `${rotated.said}\n${old}\n${now}`);
}

async function ofItsOwn(machine, { last, expect }, configuration) {
  await machine.must('systemctl stop bearerd.socket bearerd.service; rm -r /etc/systemd/system/bearerd.socket.d; ' +
    'systemctl daemon-reload; systemctl start bearerd.socket');
  await told(machine, 'A user of its own', { input: `${SECOND}\n` });
  const direct = configured(configuration, 'A user of its own');
  await machine.must('cat > /etc/bearerd/config.yaml', direct);
  await told(machine, 'A user of its own', { index: 1 });
  const before = await shown(machine, 'bearerd.service');
  const owner = await machine.must(`stat -c %U /proc/${before.MainPID}`);
  check('a user of its own is taken', owner === 'bearerd', owner);
  await expect(FIRST, { revoke: true });
  await machine.must('install -m 0640 -g bearerd /dev/stdin /etc/bearerd/secrets/client-secret', `${FIRST}\n`);
  const works = async () => (await asks(machine, 'http://localhost:4280/orders/7')).code === 0;
  await eventually('the new secret counts', 20, works);
  check('the new secret counts', last('provider').granted && last('api').good, JSON.stringify(last('provider')));
  const after = await shown(machine, 'bearerd.service');
  check('and a new secret takes no restart', after.MainPID === before.MainPID, after.MainPID);

  await machine.must('cat > /etc/bearerd/config.yaml', configured(direct, 'A user of its own', 1));
  const answer = await told(machine, 'A user of its own', { index: 2 });
  check('an app with https:// URLs is served by interception', answer.includes('{"path":"/orders/7"}'), answer);
  const authority = () => machine.must('sha256sum /var/lib/bearerd/ca/ca.pem');
  const first = await authority();
  await machine.must('systemctl restart bearerd');
  await becomes(machine, 'bearerd.service', 'active');
  check('and its authority outlives a restart', await authority() === first, '');
  const others = await asNobody(machine, 'cat /var/lib/bearerd/ca/ca.pem');
  check('which every app can read', others.code === 0, others.said);
  const key = await asNobody(machine, 'cat /var/lib/bearerd/ca/ca.key');
  check('and its key nobody', key.code !== 0 && /denied/.test(key.said), key.said);
}

/** A secret from a program that makes code as it runs, with what the page says of such ones. */
async function fromAProgram(machine, configuration) {
  const program = '/usr/local/bin/makes-code';
  await machine.must(`install -m 0755 /dev/stdin ${program}`, [
    '#!/usr/bin/perl',
    '# mmap(2) of memory that can be written to and run, which is what a compiler at run time does.',
    'my $at = syscall(9, 0, 4096, 7, 0x22, -1, 0);',
    `print $at == -1 ? die("no memory for code: $!") : "${FIRST}";`,
  ].join('\n'));
  const conf = '/run/systemd/system/bearerd.service.d/more.conf';
  const [more] = pieces().filter(({ text }) => text.includes('MemoryDenyWriteExecute'));
  const own = configuration.replace('{systemd: client-secret}', `{exec: [${program}]}`);
  await machine.must('cat > /etc/bearerd/config.yaml; systemctl restart bearerd', own);
  const before = await asks(machine, 'http://localhost:4280/orders/7');
  check('within the walls a program that makes code as it runs gives no secret', before.code !== 0, before.said);
  const renewed = 'systemctl daemon-reload; systemctl restart bearerd';
  await machine.must(`install -D -m 0644 /dev/stdin ${conf}; ${renewed}`, more.text);
  const after = await asks(machine, 'http://localhost:4280/orders/7');
  const journal = await machine.must('journalctl -u bearerd -n 12 -o cat');
  check('and with what the page says it does', after.code === 0, `${after.said}${journal}`);
  const direct = configured(configuration, 'A user of its own');
  await machine.must(`cat > /etc/bearerd/config.yaml; rm ${conf}; ${renewed}`, direct);
}

async function upgraded(machine) {
  const [one, other] = [await shown(machine, 'bearerd.service'), await shown(machine, 'bearerd@billing.service')];
  const counts = await underLoad(machine, 4280, () => machine.must('apt-get install -q /srv/rig/next.deb'));
  check(`an upgrade refuses none of ${counts['200']} requests`, all(counts), JSON.stringify(counts));
  const version = await machine.must("dpkg-query -W -f '${Version}' bearerd");
  check('the next version is there', version.endsWith('+next'), version);
  const [after, also] = [await shown(machine, 'bearerd.service'), await shown(machine, 'bearerd@billing.service')];
  const restarted = after.MainPID !== one.MainPID && also.MainPID !== other.MainPID;
  const runs = after.ActiveState === 'active' && also.ActiveState === 'active';
  check('and it runs, instances too', restarted && runs, `${after.ActiveState} ${also.ActiveState}`);
  const enabled = `${after.UnitFileState} ${also.UnitFileState}`;
  check('what was enabled is', enabled === 'enabled enabled', enabled);
}

async function purged(machine, before) {
  await told(machine, 'Debian package', { index: 1, input: 'y\n' });
  const { stdout } = await machine.run("systemctl list-units --all --plain --no-legend 'bearerd*'; pgrep -x bearerd");
  check('removed, nothing runs and no unit is known', stdout === '', stdout);
  const found = (await traces(machine)).split('\n');
  // The index of manual pages is man's.
  const ours = found.filter((path) => !before.split('\n').includes(path) && !path.startsWith('/var/cache/man/'));
  check('and nothing is left of it', ours.length === 0, ours.join(' '));
}

async function story() {
  const { said } = await run('systemd-analyze', ['--version']);
  const version = Number(/^systemd (\d+)/.exec(said)?.[1] ?? 0);
  if (version < OLDEST) {
    console.log(`skipped: the units are for systemd ${OLDEST} and later (${said.trim().split('\n')[0]})`);
    return;
  }
  await analyze();
  const lacks = lacking();
  if (lacks !== undefined || !DEB) {
    console.log(`skipped: a machine with systemd (${lacks ?? 'DEB names no package'})`);
    return;
  }
  const gifts = join(folder, 'gifts');
  mkdirSync(gifts);
  cpSync(BINARY, join(gifts, 'bearerd'));
  cpSync(UNITS, join(gifts, 'deploy', 'systemd'), { recursive: true });
  cpSync(DEB, join(gifts, basename(DEB)));
  const [ca, identity] = await certificates('DNS:id.example.com,DNS:api.example.com');
  cpSync(ca, join(gifts, 'ca.pem'));
  // The next version, as far as dpkg can tell.
  const next = join(folder, 'next');
  await run('dpkg-deb', ['-R', DEB, next]);
  const control = join(next, 'DEBIAN', 'control');
  writeFileSync(control, readFileSync(control, 'utf8').replace(/^Version: .*$/m, '$&+next'));
  await run('dpkg-deb', ['--build', '--root-owner-group', '-Znone', next, join(gifts, 'next.deb')]);

  let machine;
  try {
    machine = await boot(gifts);
  } catch (error) {
    console.log(`skipped: a machine with systemd cannot be made here (${error.message.trim().replaceAll(/\s*\n\s*/g, '; ')})`);
    return;
  }
  const disk = await machine.run('systemd-run --quiet --wait --pipe --collect mknod /root/disk b 8 0');
  check('nothing on the machine reaches a disk of this one', disk.code !== 0 && /not permitted/.test(disk.said), disk.said);
  await machine.must('echo 203.0.113.10 id.example.com api.example.com >> /etc/hosts');
  await machine.must('cat /srv/rig/ca.pem >> /etc/ssl/certs/ca-certificates.crt');
  // What the service must not see: somebody's files, and what goes by the name of a disk.
  await machine.must('touch /home/notes.txt /root/notes.txt; mknod /dev/sda c 1 3');
  const others = await world(machine, identity);

  const before = await byHand(machine);
  await installed(machine);
  await told(machine, 'The secret', { input: `${FIRST}\n` });
  await told(machine, 'The configuration');
  const configuration = `${await machine.must('cat /etc/bearerd/config.yaml')}\n`;
  await told(machine, 'Is it right?');
  const answer = await told(machine, 'Start it');
  await told(machine, 'Start it', { index: 1 });
  check('the app has its answer', answer.includes('{"path":"/orders/7"}'), answer);
  check('and the API had a token', /^Bearer token-/.test(others.last('api').authorization), others.last('api'));
  await confined(machine);
  await restarts(machine, others);
  await reloads(machine, configuration);
  await survives(machine);

  await ends(machine);
  await encrypted(machine);
  await socketForAGroup(machine, configuration);
  await anotherInstance(machine, others);
  await logs(machine, configuration);
  await ofItsOwn(machine, others, configuration);
  await fromAProgram(machine, configuration);
  await upgraded(machine);
  await purged(machine, before);
  check('every command of the page was run', left().length === 0, left().join('\n'));
}

if (!existsSync(BINARY)) {
  console.error(`no bearerd at ${BINARY}: build it first (cargo build), or name it in BEARERD`);
  process.exit(1);
}
await tell(story);
