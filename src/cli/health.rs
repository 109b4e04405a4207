//! `bearerd health`: asks the running instance, as the exec probe of an image that has no shell.

use std::cell::Cell;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use clap::ArgMatches;
use http::{Request, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::runtime::Builder;

use super::{Failed, load_with, print};
use crate::config::files::Seen;
use crate::config::{DEFAULT_FILE, Disk, Files};
use crate::inbound::ListenAddress;

/// A kubelet's probe has a second by default; whoever waits longer learns no more.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The longest answer names every token that is waited for.
const MOST: usize = 64 * 1024;

/// What is read where nobody says anything: the pages are at their default address then, or where a flag puts them.
const STAND_IN: &[u8] = b"{tokens: {default: {token_url: 'https://localhost', client_id: away, client_secret: away}},
    routes: [{name: default, upstream: 'https://localhost'}]}";

/// The configuration's own file, and stand-ins for all that it names: a secret that is away while it is being replaced
/// is no reason to have a healthy instance killed.
struct OnlyTheConfiguration {
    /// A flag or a variable says which file it is.
    named: bool,
    /// There was no file, and none was asked for.
    guessed: Cell<bool>,
}

impl Files for OnlyTheConfiguration {
    fn read(&self, path: &Path, limit: usize, regular: bool) -> io::Result<Seen> {
        Disk.read(path, limit, regular).or_else(|error| match regular {
            true => Ok(Seen { bytes: b"away".to_vec(), world_readable: false }),
            false if !self.named && path == Path::new(DEFAULT_FILE) && error.kind() == io::ErrorKind::NotFound => {
                self.guessed.set(true);
                Ok(Seen { bytes: STAND_IN.to_vec(), world_readable: false })
            }
            false => Err(error),
        })
    }

    fn is_real(&self) -> bool {
        false
    }

    fn folder(&self, _: &Path) -> io::Result<bool> {
        Ok(false)
    }
}

pub(super) fn run(matches: &ArgMatches) -> Result<(), Failed> {
    let variable = std::env::var_os("BEARERD_CONFIG").is_some_and(|file| !file.is_empty());
    let named = variable || matches.get_one::<String>("config").is_some();
    let files = OnlyTheConfiguration { named, guessed: Cell::new(false) };
    let plan = load_with(matches, &files)?.plan;
    let address = plan
        .admin
        .or(plan.health)
        .ok_or_else(|| Failed::Because("neither `admin` nor `health` is on, so there is nobody to ask".to_owned()))?;
    let path = if matches.get_flag("ready") { "/readyz" } else { "/livez" };
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let answer = runtime.block_on(async { tokio::time::timeout(TIMEOUT, ask(&address, path)).await });
    match answer {
        Ok(Ok((true, text))) => print(&text),
        Ok(Ok((false, text))) => Err(Failed::Because(text.trim_end().replace('\n', ", "))),
        Ok(Err(error)) => Err(Failed::Because(format!(
            "no instance answers at `{}`: {error:#}\n  hint: {}",
            shown(&address),
            match files.guessed.get() {
                true =>
                    "is `bearerd run` up? There is no configuration that tells where; name its file with `--config`",
                false => "is `bearerd run` up, with this same configuration?",
            },
        ))),
        Err(_) => {
            let at = shown(&address);
            Err(Failed::Because(format!("the instance at `{at}` did not answer within {TIMEOUT:?}")))
        }
    }
}

/// Whether the answer is 200, and its text.
async fn ask(address: &ListenAddress, path: &str) -> anyhow::Result<(bool, String)> {
    let stream = TcpStream::connect(&dialled(address)[..]).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::get(path).header(header::HOST, "localhost").body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    let fine = response.status().is_success();
    let body = Limited::new(response.into_body(), MOST).collect().await.map_err(anyhow::Error::from_boxed)?;
    Ok((fine, String::from_utf8_lossy(&body.to_bytes()).into_owned()))
}

fn shown(address: &ListenAddress) -> String {
    match address {
        ListenAddress::Localhost(port) => format!("localhost:{port}"),
        ListenAddress::At(address) => address.to_string(),
    }
}

/// Where to reach what listens there: an unspecified address by loopback.
fn dialled(address: &ListenAddress) -> Vec<SocketAddr> {
    match *address {
        ListenAddress::Localhost(port) => vec![(Ipv4Addr::LOCALHOST, port).into(), (Ipv6Addr::LOCALHOST, port).into()],
        ListenAddress::At(address) => {
            let ip = match address.ip() {
                IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
                IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
                ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => ip,
            };
            vec![(ip, address.port()).into()]
        }
    }
}
