//! What happens to traffic: which requests get through, how they arrive, and how connections begin and end.
//!
//! The oracle is the API's log: it holds exactly the requests that a test meant to send, or none.

mod access_log;
mod bodies;
mod bodiless;
mod callers;
mod connections;
mod corpus;
mod crowd;
mod drain;
mod expect;
mod faults;
mod forms;
mod framing_api;
mod framing_app;
mod grpc;
mod guards;
mod headers;
mod http2_api;
mod http2_app;
mod http2_bytes;
mod http2_frames;
mod http2_rules;
mod intercept;
mod limits;
mod loops;
mod misbehaving;
mod misbehaving_http2;
mod numbers;
mod pipelining;
mod places;
mod reload;
mod review;
mod routes;
mod rules;
mod streams;
mod stub_token;
mod through_a_proxy;
mod timeouts;
mod tls;
mod trailers;
mod tunnel;
mod unix;
mod warm;
mod websocket;
mod workers;

use std::time::Duration;

use bearerd::demo::seen::Seen;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{API, Options, PATIENCE, Proxy, Rig};

/// A rig whose routes, listeners and all else but the token are the test's: `document` is told the rig.
async fn rig_with(document: impl FnOnce(&Rig) -> String) -> Rig {
    let mut rig = Rig::ready(Options::default()).await;
    let token = format!(
        "tokens:\n  main:\n    token_url: {}\n    client_id: {}\n    \
         client_secret: {{file: secret}}\n    tls: {{ca_file: ca.pem}}\n",
        rig.provider.token_url(),
        crate::support::CLIENT,
    );
    let mut document = document(&rig);
    for key in ["listen", "admin"] {
        if !document.lines().any(|line| line.starts_with(key)) {
            document.push_str(&format!("{key}: 127.0.0.1:0\n"));
        }
    }
    rig.folder.write("bearerd.yaml", &(token + &document));
    rig.proxy = Proxy::start(&rig.folder);
    rig.proxy.until_ready().await;
    rig
}

/// An entry of `routes` that leads to the rig's API below `base`; `more` are further lines.
fn route(rig: &Rig, name: &str, base: &str, more: &str) -> String {
    let (address, more) = (rig.api.addr(), more.replace('\n', "\n    "));
    format!(
        "  - name: {name}\n    upstream: https://{API}{base}\n    connect_to: {address}\n    token: main\n    \
         tls: {{ca_file: ca.pem}}\n    {more}\n"
    )
}

/// An upstream on plain TCP whose every byte is the test's, and a rig that leads to it.
async fn rig_to_bytes(route: &str) -> (Rig, TcpListener) {
    let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = upstream.local_addr().unwrap();
    let rig = rig_with(|_| format!("routes:\n  - upstream: http://{address}\n    token: main\n    {route}\n")).await;
    (rig, upstream)
}

/// The next connection to it, once the head of a request has been read from it.
async fn accepted(upstream: &TcpListener) -> TcpStream {
    let (mut stream, _) = in_time(upstream.accept()).await.unwrap();
    read_until(&mut stream, "\r\n\r\n").await;
    stream
}

/// Reads until what came ends with `wanted`.
async fn read_until(stream: &mut (impl AsyncRead + Unpin), wanted: &str) -> String {
    let mut read = Vec::new();
    while !read.ends_with(wanted.as_bytes()) {
        let byte = in_time(stream.read_u8()).await;
        read.push(byte.unwrap_or_else(|error| panic!("{error} after {:?}", String::from_utf8_lossy(&read))));
    }
    String::from_utf8(read).unwrap()
}

async fn in_time<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("in time")
}

/// The targets that arrived at the API.
fn targets(rig: &Rig) -> Vec<String> {
    rig.api.requests().into_iter().map(|seen| seen.target).collect()
}

fn last(rig: &Rig) -> Seen {
    rig.api.requests().pop().expect("a request at the API")
}

/// A short wait for what must not happen, or for a clock to go on.
async fn moment(milliseconds: u64) {
    tokio::time::sleep(Duration::from_millis(milliseconds)).await;
}
