//! `bearerd demo`: the newcomer's first minute. A provider, an API and the proxy, and a plain account of what goes where.
//!
//! The proxy is configured by a file like everybody's, which the demo writes, names and removes. A tap in front of the
//! proxy lets the request be shown as the app sent it, beside what the API received.

use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::ArgMatches;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::sync::mpsc;

use super::{Failed, print, run::signals};
use crate::app::{AppError, Bound};
use crate::config::{self, Disk, Environment, Sources};
use crate::demo::api::{self, Api, Verdict};
use crate::demo::certs::Ca;
use crate::demo::log::Log as Entries;
use crate::demo::provider::{self, Provider};
use crate::demo::seen::Seen;
use crate::demo::tap::{Tap, Tapped, header};
use crate::inbound::Inherited;
use crate::observe::Observer;
use crate::observe::log::{Format, Level, Log, LogSettings};

const API_HOST: &str = "api.example.test";

const CLIENT_ID: &str = "demo-app";

/// Short, so that a renewal is seen while somebody watches.
const LIFE: Duration = Duration::from_secs(20);

/// The ports of a real one, so that what is learnt here holds there.
const PROXY_PORT: u16 = 4280;
const ADMIN_PORT: u16 = 4281;

/// How often the story is told on; quick enough to feel immediate.
const TICK: Duration = Duration::from_millis(100);

/// How many ticks the two sides of an exchange may come apart.
const PATIENCE: u32 = 15;

/// The listener behind the tap, which no app is to know of.
const INNER: &str = "demo-inner";

pub(super) fn run(matches: &ArgMatches) -> Result<(), Failed> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        // Before there is anything to clean up: an end by signal has to leave nothing behind.
        let stop = signals()?;
        let stage = Stage::set().await?;
        if matches.get_flag("once") { once(stage, stop).await } else { story(stage, stop).await }
    })
}

/// Everything that plays a part, up and running but the proxy.
struct Stage {
    _provider: Provider,
    api: Api,
    proxy: Bound,
    exchanges: Arc<Entries<Tapped>>,
    front: SocketAddr,
    admin: SocketAddr,
    issuer: String,
    folder: Folder,
}

impl Stage {
    async fn set() -> Result<Self, Failed> {
        let ca = Ca::new()?;
        let secret = provider::random_secret();
        let provider = Provider::start(provider::Settings {
            clients: vec![(CLIENT_ID.to_owned(), secret.clone())],
            life: LIFE,
            ..provider::Settings::new(ca.server(&["localhost"])?)
        });
        let provider = provider.await?;
        let api = Api::start(api::Settings {
            host: API_HOST.to_owned(),
            ..api::Settings::new(ca.server(&[API_HOST])?, provider.verifier())
        });
        let api = api.await?;

        let folder = Folder::new()?;
        folder.write("ca.pem", &ca.pem())?;
        folder.write("client-secret", &secret)?;
        let proxy = |admin_port| {
            folder.write("bearerd.yaml", &configuration(&provider, &api, admin_port))?;
            Ok::<_, Failed>(Bound::new(folder.plan()?, Inherited::default(), Observer::new(told_log())))
        };
        let proxy = match proxy(ADMIN_PORT)? {
            // Taken, most likely by a bearerd at work.
            Err(AppError::Bind(_)) => proxy(0)??,
            bound => bound?,
        };

        let to = first(&proxy.addresses())?;
        let admin = first(&proxy.admin_addresses())?;
        let front = TcpListener::bind((Ipv4Addr::LOCALHOST, PROXY_PORT)).await;
        let front = match front {
            Ok(front) => front,
            Err(_) => TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?,
        };
        let address = front.local_addr()?;
        // With the ports that were found, so that the commands that read it reach this very demo.
        folder.write("bearerd.yaml", &configuration(&provider, &api, admin.port()))?;
        let exchanges = Tap::start(front, to).exchanges;
        let issuer = provider.issuer().to_owned();
        Ok(Self { _provider: provider, api, proxy, exchanges, front: address, admin, issuer, folder })
    }
}

/// What a real configuration looks like, with the demo's addresses in it.
fn configuration(provider: &Provider, api: &Api, admin_port: u16) -> String {
    let issuer = provider.issuer();
    let api = api.addr();
    format!(
        "listen: [{{name: {INNER}, address: 127.0.0.1:0}}]   # behind the demo's tap, which listens on the usual port
admin: 127.0.0.1:{admin_port}
tokens:
  demo:
    issuer: {issuer}
    client_id: {CLIENT_ID}
    client_secret: {{file: client-secret}}
    tls: {{ca_file: ca.pem}}
routes:
  - name: demo
    upstream: https://{API_HOST}
    connect_to: {api}       # the demo's API; a real one needs no such line
    token: demo
    tls: {{ca_file: ca.pem}}
"
    )
}

/// The proxy's own events, as lines of the story.
fn told_log() -> Log {
    let settings = LogSettings { level: Level::Info, format: Format::Pretty };
    Log::to(settings, |line| {
        if line.contains(&format!("{INNER} listens on")) {
            return;
        }
        // The date is the same all through a demo: `2026-01-31T12:34:56.789Z info  …` from the time on.
        let line = line.split_once('T').map_or(line, |(_, rest)| rest);
        drop(print(line));
    })
}

async fn story(stage: Stage, stop: mpsc::Receiver<&'static str>) -> Result<(), Failed> {
    let Stage { _provider, api, proxy, exchanges, front, admin, issuer, folder } = stage;
    let seconds = LIFE.as_secs();
    // As it was called, so that the lines work where they are read.
    let bearerd = std::env::args_os().next().map_or_else(|| "bearerd".to_owned(), |name| name.display().to_string());
    let file = folder.0.join("bearerd.yaml");
    let file = file.display();
    print(&format!(
        "An identity provider, a TLS API and bearerd between them and you, all in this process, all on loopback.

  curl ──http──▶ bearerd {front} ──https, with a token──▶ https://{API_HOST}
                    │
                    └─ client credentials ─▶ {issuer} (tokens live {seconds} s)

Try, in another terminal:

  # 200: the request needs no credential, the API gets one
  curl http://{front}/orders/1
  # 200: the same for an app that can only be given a proxy
  curl -x http://{front} http://{API_HOST}/orders/2
  # 200: the forged token is replaced
  curl -H 'Authorization: Bearer forged' http://{front}/orders/3
  # 403: web pages may not call
  curl -H 'Origin: https://evil.example' http://{front}/orders/4
  # JSON: what bearerd knows of itself; a browser shows it as a page at http://{admin}/
  curl http://{admin}/status

  {bearerd} check --config {file}
  {bearerd} token --claims --config {file}
  {bearerd} health --ready --config {file}

Each request is told below, both sides of it. The eight hexadecimal digits after `Bearer` are a fingerprint; the token
itself is never shown. Lines that begin with a time are bearerd's own log. Ctrl-C ends it.

"
    ))?;
    let ended = proxy.run(stop);
    tokio::select! {
        ended = ended => drop(ended?),
        told = tell(&exchanges, &api) => told?,
    }
    Ok(())
}

/// Goes on until standard output fails.
async fn tell(exchanges: &Entries<Tapped>, api: &Api) -> Result<(), Failed> {
    let mut story = Story::default();
    loop {
        tokio::time::sleep(TICK).await;
        let exchanges = exchanges.take_while(|_| true);
        let seen = api.log().take_while(|seen| seen.status.is_some());
        for text in story.goes_on(exchanges, seen) {
            print(&text)?;
        }
    }
}

/// What is known of one side alone, and for how many ticks.
#[derive(Default)]
struct Story {
    passed: Vec<(Tapped, u32)>,
    seen: Vec<(Seen, u32)>,
}

impl Story {
    /// What can be told after one more tick.
    fn goes_on(&mut self, exchanges: Vec<Tapped>, seen: Vec<Seen>) -> Vec<String> {
        let (own, passed): (Vec<_>, Vec<_>) = exchanges.into_iter().partition(is_own);
        let mut told: Vec<_> = own.iter().map(answered_itself).collect();
        self.passed.extend(passed.into_iter().map(|tapped| (tapped, 0)));
        self.seen.extend(seen.into_iter().map(|seen| (seen, 0)));
        for (tapped, ticks) in std::mem::take(&mut self.passed) {
            match self.seen.iter().position(|(seen, _)| is_of(&tapped.request, seen)) {
                Some(place) => told.push(side_by_side(&tapped.request, &self.seen.remove(place).0)),
                None if ticks < PATIENCE => self.passed.push((tapped, ticks + 1)),
                None => told.push(format!("  {} ─▶ {}\n", first_line(&tapped.request), first_line(&tapped.answer))),
            }
        }
        for (seen, ticks) in std::mem::take(&mut self.seen) {
            match ticks < PATIENCE {
                true => self.seen.push((seen, ticks + 1)),
                // A later request over a connection that was kept: only its first one was noted.
                false => told.push(format!("  {} {} ─▶ {}\n", seen.method, printable(&seen.target), outcome(&seen))),
            }
        }
        told
    }
}

/// Whether bearerd itself gave this answer (RFC 9209).
fn is_own(tapped: &Tapped) -> bool {
    header(&tapped.answer, "proxy-status").is_some_and(|status| status.starts_with("bearerd"))
}

/// A request that bearerd answered itself: what it was, what of it mattered, and the answer.
fn answered_itself(tapped: &Tapped) -> String {
    let problem: serde_json::Value = serde_json::from_str(&tapped.problem).unwrap_or_default();
    let reason = problem["reason"].as_str().unwrap_or_default();
    let telling = match reason {
        "web_origin" => &["Origin", "Sec-Fetch-Site"][..],
        "host_not_ours" | "ambiguous_host" => &["Host"],
        "own_credential" => &["Authorization"],
        _ => &[],
    };
    let told = |name: &&str| {
        let value = header(&tapped.request, name)?;
        Some(format!("  {name}: {}\n", printable(value)))
    };
    let headers: String = telling.iter().filter_map(told).collect();
    let status = tapped.answer.split(' ').nth(1).unwrap_or_default();
    let answer = printable(format!("{status} {reason}").trim_end());
    // With these the request, or some of it, may well have come there.
    let reached = ["upstream_", "bad_upstream", "internal"].iter().any(|word| reason.starts_with(word));
    let end = if reached { "" } else { "; nothing reached the API" };
    format!("\n  {}\n{headers}  └▶ bearerd answered {answer} itself{end}\n\n", first_line(&tapped.request))
}

/// One request, by this process itself.
async fn once(stage: Stage, mut interrupted: mpsc::Receiver<&'static str>) -> Result<(), Failed> {
    let Stage { _provider, api, proxy, exchanges, front, folder, .. } = stage;
    let (stop, stopped) = mpsc::channel(1);
    let proxy = tokio::spawn(proxy.run(stopped));
    let answer = tokio::select! {
        answer = tokio::time::timeout(Duration::from_secs(30), ask(front)) => answer,
        Some(signal) = interrupted.recv() => return Err(Failed::Because(format!("{signal} came before the answer"))),
    };
    let answer = answer.map_err(|_| Failed::Because("no answer came within 30 s".into()))??;
    let tapped = exchanges.take_while(|_| true).pop().ok_or_else(|| Failed::Because("nothing was noted".into()))?;
    if is_own(&tapped) {
        let _ = stop.send("the end of the demo").await;
        proxy.await??;
        print(&answered_itself(&tapped))?;
        return Err(Failed::Because("the API did not get what it should have".into()));
    }
    let seen = api.log().wait_for(1, Duration::from_secs(5)).await?;
    // A proxy that has ended by itself says why just below.
    let _ = stop.send("the end of the demo").await;
    proxy.await??;
    drop(folder);

    let status = answer.lines().next().unwrap_or_default().to_owned();
    let seen = seen.last().ok_or_else(|| Failed::Because("the API saw nothing".into()))?;
    print(&format!("{}The app got: {status}\n", side_by_side(&tapped.request, seen)))?;
    let right = status.contains(" 200 ") && seen.verdict == Verdict::Good && seen.authorization_lines == 1;
    if right { Ok(()) } else { Err(Failed::Because("the API did not get what it should have".into())) }
}

async fn ask(front: SocketAddr) -> io::Result<String> {
    let mut app = TcpStream::connect(front).await?;
    let request = format!(
        "GET /orders/7 HTTP/1.1\r\nHost: {front}\r\nUser-Agent: an-app-that-knows-no-oauth\r\nAccept: */*\r\n\
         Connection: close\r\n\r\n"
    );
    app.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    app.read_to_string(&mut answer).await?;
    Ok(answer)
}

fn is_of(head: &str, seen: &Seen) -> bool {
    let mut words = head.split(' ');
    words.next() == Some(seen.method.as_str()) && words.next().is_some_and(|target| target.ends_with(&seen.target))
}

fn outcome(seen: &Seen) -> String {
    let status = seen.status.map_or_else(|| "no answer".to_owned(), |status| status.to_string());
    match seen.token_fingerprint {
        Some(fingerprint) => format!("{status}, with token {fingerprint}"),
        None => format!("{status}, without a token"),
    }
}

/// The app's head on the left, the API's on the right.
fn side_by_side(head: &str, seen: &Seen) -> String {
    const WIDTH: usize = 52;
    let left: Vec<_> = head.lines().filter(|line| !line.is_empty()).map(printable).collect();
    let mut right = vec![format!("{} {} HTTP/1.1", seen.method, seen.target)];
    right.extend(seen.headers.iter().map(|(name, value)| printable(&format!("{name}: {value}"))));
    let empty = String::new();
    let row = |index: usize| {
        let cell = |lines: &[String]| lines.get(index).unwrap_or(&empty).clone();
        format!("  {:<WIDTH$} │ {}\n", shortened(&cell(&left), WIDTH), cell(&right))
    };
    let rows: String = (0..left.len().max(right.len())).map(row).collect();
    format!(
        "\n  {:<WIDTH$} │ {}\n  {:─<WIDTH$}─┼─{:─<WIDTH$}\n{rows}  {:>WIDTH$} └▶ {}\n\n",
        "what the app sent, over HTTP",
        "what the API received, over TLS",
        "",
        "",
        "",
        outcome(seen)
    )
}

fn first_line(head: &str) -> String {
    head.lines().next().map_or_else(|| "no answer".to_owned(), printable)
}

/// Without what could steer a terminal.
fn printable(line: &str) -> String {
    line.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn shortened(line: &str, most: usize) -> String {
    match line.char_indices().nth(most) {
        None => line.to_owned(),
        Some(_) => line.chars().take(most - 1).chain(['…']).collect(),
    }
}

fn first(addresses: &[SocketAddr]) -> Result<SocketAddr, Failed> {
    addresses.first().copied().ok_or_else(|| Failed::Because("the proxy listens nowhere".into()))
}

/// The demo's files, gone when it ends.
struct Folder(PathBuf);

impl Folder {
    fn new() -> io::Result<Self> {
        // A name that nobody can take beforehand, and made here or not at all: a link that somebody else left in a
        // folder that all may write to would lead the secret elsewhere.
        let path = std::env::temp_dir().join(format!("bearerd-demo-{:016x}", fastrand::u64(..)));
        let mut builder = std::fs::DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        let told = |error: io::Error| {
            let hint = "the demo keeps its files there; set TMPDIR to a folder that can be written to";
            io::Error::new(error.kind(), format!("cannot create `{}`: {error}\n  hint: {hint}", path.display()))
        };
        builder.create(&path).map_err(told)?;
        Ok(Self(path))
    }

    fn write(&self, name: &str, text: &str) -> io::Result<()> {
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        options.open(self.0.join(name))?.write_all(text.as_bytes())
    }

    fn plan(&self) -> Result<config::Plan, Failed> {
        let file = self.0.join("bearerd.yaml").display().to_string();
        let flags = [("config".to_owned(), file)];
        let sources = Sources { flags: &flags, environment: &Environment::new(), files: &Disk, parallelism: 1 };
        let loaded = config::load(&sources).map_err(|problems| Failed::Because(problems.to_string()))?;
        Ok(loaded.plan)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Best effort: what is left is a secret that opened nothing but this demo.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tapped(answer: &str, problem: &str) -> Tapped {
        let request = "GET /orders/7 HTTP/1.1\r\nHost: localhost\r\nOrigin: https://evil.example\r\n\r\n".to_owned();
        Tapped { request, answer: answer.to_owned(), problem: problem.to_owned() }
    }

    #[test]
    fn what_bearerd_answered_is_told_at_once_and_what_nobody_saw_in_the_end() {
        let mut story = Story::default();
        let own =
            tapped("HTTP/1.1 403 Forbidden\r\nproxy-status: bearerd; error=x\r\n\r\n", r#"{"reason":"web_origin"}"#);
        let told = story.goes_on(vec![own], vec![]);
        assert_eq!(
            told,
            ["\n  GET /orders/7 HTTP/1.1\n  Origin: https://evil.example\n  \
              └▶ bearerd answered 403 web_origin itself; nothing reached the API\n\n"]
        );
        let late =
            tapped("HTTP/1.1 502 Bad Gateway\r\nproxy-status: bearerd\r\n\r\n", r#"{"reason":"upstream_reset"}"#);
        assert!(story.goes_on(vec![late], vec![])[0].contains("502 upstream_reset itself\n"));
        let mut told = story.goes_on(vec![tapped("HTTP/1.1 200 OK\r\n\r\n", "")], vec![]);
        assert!(told.is_empty());
        for _ in 0..PATIENCE {
            told.extend(story.goes_on(vec![], vec![]));
        }
        assert_eq!(told, ["  GET /orders/7 HTTP/1.1 ─▶ HTTP/1.1 200 OK\n"]);
    }
}
