//! `bearerd health`: asks the running instance, as the exec probe of an image that has no shell.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use clap::ArgMatches;
use http::{Request, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::runtime::Builder;

use super::{Failed, load, print};
use crate::inbound::ListenAddress;

/// A kubelet's probe has a second by default; whoever waits longer learns no more.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The longest answer names every token that is waited for.
const MOST: usize = 64 * 1024;

pub(super) fn run(matches: &ArgMatches) -> Result<(), Failed> {
    let plan = load(matches)?.plan;
    let address = plan
        .admin
        .or(plan.health)
        .ok_or_else(|| Failed::Because("neither `admin` nor `health` is on, so there is nobody to ask".to_owned()))?;
    let path = if matches.get_flag("ready") { "/readyz" } else { "/livez" };
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let answer = runtime.block_on(async { tokio::time::timeout(TIMEOUT, ask(&address, path)).await });
    match answer {
        Ok(Ok((true, text))) => print(&text),
        Ok(Ok((false, text))) => Err(Failed::Because(text.trim_end().to_owned())),
        Ok(Err(error)) => Err(Failed::Because(format!("no instance answers: {error:#}"))),
        Err(_) => Err(Failed::Because(format!("the instance did not answer within {TIMEOUT:?}"))),
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
