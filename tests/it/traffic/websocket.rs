//! WebSockets: what asks for one, what agrees to it, and two connections that live and end together.
//!
//! To the proxy they are bytes, so frames are of no interest here: what is sent arrives, in order, and nothing of it
//! before both sides meant the same.

use std::time::Duration;

use bearerd::demo::answer::Answer;
use bearerd::demo::steps::Step;
use http::Version;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::{accepted, in_time, last, moment, read_until, rig_to_bytes, rig_with, route, targets};
use super::{http2_api, intercept, tls};
use crate::support::{Options, PATIENCE, Rig, eventually};

/// The example of RFC 6455, 1.3: a key, and what has to be made of it.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// A head that asks for a WebSocket, as [`App::ask`] takes it; `more` are further lines.
fn asking(path: &str, more: &str) -> String {
    let more = if more.is_empty() { String::new() } else { format!("\n{more}") };
    format!(
        "GET {path} HTTP/1.1\nConnection: Upgrade\nUpgrade: websocket\nSec-WebSocket-Version: 13\n\
         Sec-WebSocket-Key: {KEY}{more}"
    )
}

/// A 101 that agrees; `more` are further lines, each with its end.
fn agreeing(more: &str) -> String {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {ACCEPT}\r\n{more}\r\n"
    )
}

/// An API's answer that agrees and sends back what comes.
fn echo() -> Answer {
    Answer::Raw(vec![Step::Send(agreeing("").into()), Step::Echo])
}

async fn say(stream: &mut (impl AsyncWrite + Unpin), text: &str) {
    in_time(stream.write_all(text.as_bytes())).await.unwrap();
    in_time(stream.flush()).await.unwrap();
}

async fn hear(stream: &mut (impl AsyncRead + Unpin), length: usize) -> String {
    let mut heard = vec![0; length];
    in_time(stream.read_exact(&mut heard)).await.unwrap();
    String::from_utf8(heard).unwrap()
}

/// Whether the other side ended, in whatever way, without saying more.
async fn has_ended(stream: &mut (impl AsyncRead + Unpin)) -> bool {
    in_time(stream.read_u8()).await.is_err()
}

/// Both ends of a WebSocket through the proxy.
async fn opened(rig: &Rig, upstream: &TcpListener) -> (TcpStream, TcpStream) {
    let app = rig.app().await;
    let head = app.head(&asking("/chat", ""));
    let mut app = app.into_stream();
    say(&mut app, &head).await;
    let mut api = accepted(upstream).await;
    say(&mut api, &agreeing("")).await;
    assert!(read_until(&mut app, "\r\n\r\n").await.starts_with("HTTP/1.1 101 "));
    (app, api)
}

async fn metric(rig: &Rig, line: &str) -> bool {
    rig.proxy.page("/metrics").await.text().contains(&format!("{line}\n"))
}

async fn until_metric(rig: &Rig, line: &str) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !metric(rig, line).await {
        assert!(tokio::time::Instant::now() < deadline, "{line} is missing");
        moment(10).await;
    }
}

#[tokio::test]
async fn a_websocket_carries_bytes_both_ways_with_our_credential_on_its_request() {
    let rig = Rig::ready(Options::default()).await;
    let more = "Sec-WebSocket-Protocol: superchat\r\nX-Api: 1\r\nContent-Length: 5\r\n";
    rig.api.script().push(Answer::Raw(vec![Step::Send(agreeing(more).into()), Step::Echo]));
    let mut app = rig.app().await;
    let lines = "Authorization: Bearer stolen\nSec-WebSocket-Protocol: chat, superchat\n\
                 Sec-WebSocket-Extensions: permessage-deflate\nCookie: a=b";
    let answer = app.ask(&asking("/chat?room=1", lines)).await;
    assert_eq!(answer.status, 101);
    for (name, value) in [
        ("upgrade", Some("websocket")),
        ("connection", Some("upgrade")),
        ("sec-websocket-accept", Some(ACCEPT)),
        ("sec-websocket-protocol", Some("superchat")),
        ("x-api", Some("1")),
        ("content-length", None),
        ("transfer-encoding", None),
    ] {
        assert_eq!(answer.header(name), value, "{name}");
    }
    let seen = last(&rig);
    assert_eq!((seen.target.as_str(), seen.authorization_lines), ("/chat?room=1", 1));
    assert_eq!(seen.verdict, bearerd::demo::api::Verdict::Good);
    for (name, value) in [
        ("upgrade", "websocket"),
        ("connection", "upgrade"),
        ("sec-websocket-key", KEY),
        ("sec-websocket-version", "13"),
        ("sec-websocket-protocol", "chat, superchat"),
        ("sec-websocket-extensions", "permessage-deflate"),
        ("cookie", "a=b"),
    ] {
        assert_eq!(seen.header(name), [value], "{name}");
    }
    let mut app = app.into_stream();
    for text in ["hello", "GET /x HTTP/1.1\r\n\r\n", "\0\x7f"] {
        say(&mut app, text).await;
        assert_eq!(hear(&mut app, text.len()).await, text);
    }
    let open = "bearerd_upstream_connections{route=\"api\"} 1";
    assert!(metric(&rig, open).await);
    // It is another's neither while it lasts nor afterwards, and counts when it has ended.
    assert_eq!(rig.get("/other").await.status, 200);
    assert_ne!(last(&rig).connection_id, seen.connection_id);
    assert!(!metric(&rig, "bearerd_requests_total{route=\"api\",code=\"101\"} 1").await, "it goes on");
    app.shutdown().await.unwrap();
    assert!(has_ended(&mut app).await);
    until_metric(&rig, "bearerd_requests_total{route=\"api\",code=\"101\"} 1").await;
    until_metric(&rig, open).await;
    assert_eq!(rig.get("/other").await.status, 200);
    assert_eq!(rig.api.counts().accepted(), 2, "one of its own, and one for the rest");
}

/// An ordinary connection that is idle, and of which the pool could make use.
#[tokio::test]
async fn a_websocket_has_a_connection_of_its_own() {
    let rig = Rig::ready(Options::default()).await;
    assert_eq!(rig.get("/first").await.status, 200);
    rig.api.script().push(echo());
    let mut app = rig.app().await;
    assert_eq!(app.ask(&asking("/chat", "")).await.status, 101);
    assert_eq!(rig.get("/second").await.status, 200);
    let by: Vec<u64> = rig.api.requests().iter().map(|seen| seen.connection_id).collect();
    assert_eq!(by, [1, 2, 1]);
}

#[tokio::test]
async fn it_speaks_http1_whatever_the_route_prefers() {
    for more in ["", "http: http2"] {
        let rig = http2_api::rig_to_http2(100, more).await;
        assert_eq!(rig.get("/").await.status, 200);
        assert_eq!(last(&rig).version, Version::HTTP_2);
        rig.api.script().push(echo());
        let mut app = rig.app().await;
        assert_eq!(app.ask(&asking("/chat", "")).await.status, 101, "{more}");
        assert_eq!((last(&rig).version, last(&rig).connection_id), (Version::HTTP_11, 2));
        let mut app = app.into_stream();
        say(&mut app, "hello").await;
        assert_eq!(hear(&mut app, 5).await, "hello");
    }
}

#[tokio::test]
async fn nothing_that_was_sent_ahead_is_passed_on_before_the_upstream_agrees() {
    let (rig, upstream) = rig_to_bytes("").await;
    let app = rig.app().await;
    let head = app.head(&asking("/chat", ""));
    let mut app = app.into_stream();
    say(&mut app, &format!("{head}ahead")).await;
    let mut api = accepted(&upstream).await;
    say(&mut app, " of time").await;
    assert!(tokio::time::timeout(Duration::from_millis(200), api.read_u8()).await.is_err(), "nothing comes");
    // Behind the answer the upstream's own first bytes may come at once.
    say(&mut api, &format!("{}welcome", agreeing(""))).await;
    assert_eq!(hear(&mut api, 13).await, "ahead of time");
    read_until(&mut app, "\r\n\r\nwelcome").await;
    say(&mut app, "more").await;
    assert_eq!(hear(&mut api, 4).await, "more");
}

#[tokio::test]
async fn a_101_that_does_not_agree_is_the_upstreams_fault_and_ends_both_connections() {
    let (rig, upstream) = rig_to_bytes("").await;
    let agrees = agreeing("");
    for (what, wrong) in [
        ("another key's", agrees.replace(ACCEPT, "AAAAAAAAAAAAAAAAAAAAAAAAAAA=")),
        ("no accept", agrees.replace("Sec-WebSocket-Accept", "X-Accept")),
        ("accept twice", agreeing(&format!("Sec-WebSocket-Accept: {ACCEPT}\r\n"))),
        ("another protocol", agrees.replace("Upgrade: websocket", "Upgrade: h2c")),
        ("no protocol", agrees.replace("Upgrade: websocket\r\n", "")),
        ("no connection", agrees.replace("Connection: Upgrade\r\n", "")),
        ("a subprotocol nobody offered", agreeing("Sec-WebSocket-Protocol: chat\r\n")),
        ("an extension nobody offered", agreeing("Sec-WebSocket-Extensions: permessage-deflate\r\n")),
        ("HTTP/1.0", agrees.replace("HTTP/1.1", "HTTP/1.0")),
    ] {
        let mut app = rig.app().await;
        app.send(format!("{}ahead", app.head(&asking("/chat", "")))).await;
        let mut api = accepted(&upstream).await;
        say(&mut api, &format!("{wrong}HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")).await;
        let answer = app.answer().await;
        assert_eq!((answer.status, answer.reason().as_str()), (502, "bad_upstream"), "{what}");
        assert_eq!(answer.header("connection"), Some("close"), "{what}");
        assert!(app.is_closed().await && has_ended(&mut api).await, "{what}");
    }
}

#[tokio::test]
async fn another_answer_than_101_is_an_ordinary_one_and_ends_both_connections() {
    let (rig, upstream) = rig_to_bytes("").await;
    for head in [
        "200 OK\r\nContent-Length: 2\r\n\r\nok",
        "200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "400 Bad Request\r\nContent-Length: 2\r\n\r\nok",
        "426 Upgrade Required\r\nUpgrade: websocket\r\nConnection: upgrade\r\nContent-Length: 2\r\n\r\nok",
        "404 Not Found\r\nConnection: close\r\n\r\nok",
    ] {
        let mut app = rig.app().await;
        let ahead = app.head("GET /smuggled HTTP/1.1");
        app.send(format!("{}{ahead}", app.head(&asking("/chat", "")))).await;
        let mut api = accepted(&upstream).await;
        say(&mut api, &format!("HTTP/1.1 {head}")).await;
        if head.contains("Connection: close") {
            api.shutdown().await.unwrap();
        }
        let answer = app.answer().await;
        assert_eq!((answer.status.to_string().as_str(), answer.text()), (&head[..3], "ok"));
        assert_eq!((answer.header("connection"), answer.header("upgrade")), (Some("close"), None), "{head}");
        assert!(app.is_closed().await, "{head}");
        assert!(has_ended(&mut api).await, "not a byte of what was sent ahead: {head}");
    }
    // Nor by a connection of its own.
    assert!(tokio::time::timeout(Duration::from_millis(100), upstream.accept()).await.is_err());
}

/// Whoever closes a socket with unread bytes in it sends a reset, which can overtake the answer.
#[tokio::test]
async fn the_answer_arrives_however_much_was_sent_ahead() {
    let rig = Rig::ready(Options::default()).await;
    let ahead = "x".repeat(100 * 1024);
    for (path, head) in [
        // Which is dropped, and so what stands behind it is no request.
        ("/h2c", "GET /h2c HTTP/1.1\nConnection: Upgrade, close\nUpgrade: h2c".to_owned()),
        ("/websocket", asking("/websocket", "")),
    ] {
        let mut app = rig.app().await;
        app.send(format!("{}{ahead}", app.head(&head))).await;
        let mut heard = Vec::new();
        let mut stream = app.into_stream();
        in_time(stream.read_to_end(&mut heard)).await.unwrap_or_else(|error| panic!("{path}: {error}"));
        let heard = String::from_utf8(heard).unwrap();
        assert!(heard.starts_with("HTTP/1.1 200 ") && heard.contains(path), "{heard}");
    }
    assert_eq!(targets(&rig), ["/h2c", "/websocket"]);
}

#[tokio::test]
async fn what_is_no_handshake_is_an_ordinary_request() {
    let rig = Rig::ready(Options::default()).await;
    let mut app = rig.app().await;
    let asks = asking("/x", "");
    for head in [
        asks.replace("websocket\n", "h2c\n"),
        asks.replace("websocket\n", "h2c, websocket\n"),
        asks.replace("websocket\n", "websocket\nUpgrade: h2c\n"),
        asks.replace("Connection: Upgrade\n", ""),
        asks.replace(": 13", ": 8"),
        asks.replace(KEY, "short"),
        asks.replace(&format!("\nSec-WebSocket-Key: {KEY}"), ""),
        asks.replace("GET", "OPTIONS"),
    ] {
        assert_eq!(app.ask(&head).await.status, 200, "{head}");
        let seen = last(&rig);
        assert_eq!((seen.header("upgrade"), seen.header("connection")), (Vec::new(), Vec::new()), "{head}");
    }
    for (framing, body) in [("Content-Length: 5", "hello"), ("Transfer-Encoding: chunked", "5\r\nhello\r\n0\r\n\r\n")] {
        app.send(format!("{}{body}", app.head(&asking("/x", framing)))).await;
        assert_eq!(app.answer().await.status, 200);
        assert_eq!((last(&rig).header("upgrade"), last(&rig).body_len), (Vec::new(), 5), "{framing}");
    }
    // All of it over one connection of the app and one of ours, and nobody may agree to it.
    assert_eq!(rig.api.counts().accepted(), 1);
    rig.api.script().push(echo());
    let answer = app.ask(&asks.replace("websocket\n", "h2c\n")).await;
    assert_eq!((answer.status, answer.reason().as_str()), (502, "bad_upstream"));
}

#[tokio::test]
async fn a_token_that_is_refused_is_renewed_for_a_websocket_too() {
    let rig = Rig::ready(Options::default()).await;
    let first = rig.provider.calls()[0].issued.expect("a token");
    rig.api.script().push(Answer::status(401).header("www-authenticate", "Bearer error=\"invalid_token\""));
    rig.api.script().push(echo());
    let mut app = rig.app().await;
    assert_eq!(app.ask(&asking("/chat", "")).await.status, 101);
    let seen = rig.api.requests();
    let tokens: Vec<_> = seen.iter().map(|seen| seen.token_fingerprint.unwrap()).collect();
    assert!(tokens.len() == 2 && tokens[0] == first && tokens[1] != first, "{tokens:?}");
    assert_ne!(seen[0].connection_id, seen[1].connection_id, "each on a connection of its own");
    let mut app = app.into_stream();
    say(&mut app, "hello").await;
    assert_eq!(hear(&mut app, 5).await, "hello");
}

#[tokio::test]
async fn a_web_page_gets_no_websocket() {
    let rig = Rig::ready(Options::default()).await;
    for line in ["Origin: https://evil.example", "Origin: null", "Sec-Fetch-Site: cross-site"] {
        let mut app = rig.app().await;
        let answer = app.ask(&asking("/chat", line)).await;
        assert_eq!((answer.status, answer.reason().as_str()), (403, "web_origin"), "{line}");
        assert!(app.is_closed().await, "what the page sent ahead is no request");
    }
    let mut app = rig.app().await;
    let answer = app.ask(&asking("/chat", "Host: rebound.example")).await;
    assert_eq!((answer.status, answer.reason().as_str()), (421, "host_not_ours"));
    assert_eq!(targets(&rig), [""; 0]);
    // A page of our own may.
    rig.api.script().push(echo());
    let origin = format!("Origin: http://{}", rig.proxy.address);
    assert_eq!(rig.app().await.ask(&asking("/chat", &origin)).await.status, 101);
}

#[tokio::test]
async fn over_tls_on_both_sides_and_two_workers() {
    let rig = rig_with(|rig| {
        tls::write(rig, "", &rig.ca.identity(&[tls::NAME]).unwrap());
        let route = route(rig, "api", "", "");
        format!(
            "workers: 2\nlisten: {{name: egress, address: '127.0.0.1:0', tls: {{cert_file: cert.pem, key_file: \
             key.pem}}}}\ncallers: {{hosts: [{}]}}\nroutes:\n{route}",
            tls::NAME
        )
    })
    .await;
    for _ in 0..4 {
        rig.api.script().push(echo());
        let mut app = tls::connect_to(rig.proxy.address, tls::client(&rig, None)).await.unwrap();
        assert_eq!(app.ask(&asking("/chat", "")).await.status, 101);
        let mut app = app.into_stream();
        let long = "wss ".repeat(50_000);
        let (mut from, mut to) = tokio::io::split(&mut app);
        let sending = say(&mut to, &long);
        let (heard, ()) = tokio::join!(hear(&mut from, long.len()), sending);
        assert!(heard == long);
        drop((from, to));
        // The end of one side is told by close_notify, and comes back as one.
        app.shutdown().await.unwrap();
        assert_eq!(in_time(app.read(&mut [0])).await.unwrap(), 0);
    }
    eventually("every connection is closed", || rig.api.counts().open.now() == 0).await;
}

/// What an app with a hard-coded `wss://` does by a proxy.
#[tokio::test]
async fn within_an_interception() {
    let rig = intercept::rig("", "").await;
    rig.api.script().push(echo());
    let mut app = intercept::inside(&rig, "").await;
    assert_eq!(app.ask(&asking("/v1/chat", "")).await.status, 101);
    assert_eq!((last(&rig).verdict, last(&rig).target.as_str()), (bearerd::demo::api::Verdict::Good, "/v1/chat"));
    let mut app = app.into_stream();
    say(&mut app, "hello").await;
    assert_eq!(hear(&mut app, 5).await, "hello");
    app.shutdown().await.unwrap();
    assert_eq!(in_time(app.read(&mut [0])).await.unwrap(), 0);
}

#[tokio::test]
async fn it_holds_its_place_for_as_long_as_it_lasts() {
    let limits = "limits: {in_flight: 1, queue: 0}";
    let (rig, upstream) = rig_to_bytes(limits).await;
    let (app, api) = opened(&rig, &upstream).await;
    let answer = rig.get("/other").await;
    assert_eq!((answer.status, answer.reason().as_str()), (503, "overloaded"));
    drop((app, api));
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let mut other = rig.app().await;
        other.send(other.head("GET /other HTTP/1.1")).await;
        tokio::select! {
            mut api = accepted(&upstream) => {
                say(&mut api, "HTTP/1.1 204 No Content\r\n\r\n").await;
                assert_eq!(other.answer().await.status, 204);
                return;
            }
            answer = other.answer() => assert_eq!(answer.status, 503),
        }
        assert!(tokio::time::Instant::now() < deadline, "the place is not given back");
    }
}

#[tokio::test]
async fn its_connection_counts_among_those_of_apps() {
    let (rig, upstream) = rig_with_top("limits: {connections: 1}").await;
    let (mut app, mut api) = opened(&rig, &upstream).await;
    assert_eq!(rig.get("/other").await.status, 503, "no connection is left");
    say(&mut app, "hello").await;
    assert_eq!(hear(&mut api, 5).await, "hello");
}

/// A rig to bytes with further lines at the top of its document.
async fn rig_with_top(top: &str) -> (Rig, TcpListener) {
    let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = upstream.local_addr().unwrap();
    let rig = rig_with(|_| format!("{top}\nroutes:\n  - upstream: http://{address}\n    token: main\n")).await;
    (rig, upstream)
}

#[tokio::test]
async fn a_quiet_one_is_left_alone() {
    let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = upstream.local_addr().unwrap();
    let rig = rig_with(|_| {
        let timeouts = "timeouts: {headers: 100ms, body_idle: 100ms, pool_idle: 100ms, max_age: 100ms}";
        format!(
            "limits: {{idle: 100ms, head: 100ms}}\nroutes:\n  - upstream: http://{address}\n    token: main\n    \
             {timeouts}\n"
        )
    })
    .await;
    let (mut app, mut api) = opened(&rig, &upstream).await;
    // Bytes that could be the beginning of a head, and then nothing.
    say(&mut app, "GET").await;
    assert_eq!(hear(&mut api, 3).await, "GET");
    moment(1_000).await;
    say(&mut app, "up").await;
    assert_eq!(hear(&mut api, 2).await, "up");
    say(&mut api, "down").await;
    assert_eq!(hear(&mut app, 4).await, "down");
    // Once one side has ended the other has as long as a body.
    app.shutdown().await.unwrap();
    assert!(has_ended(&mut api).await);
    assert!(has_ended(&mut app).await);
}

#[tokio::test]
async fn the_end_of_one_side_is_passed_on_and_the_other_goes_on() {
    let (rig, upstream) = rig_to_bytes("").await;
    let (mut app, mut api) = opened(&rig, &upstream).await;
    say(&mut app, "last").await;
    app.shutdown().await.unwrap();
    assert_eq!(hear(&mut api, 4).await, "last");
    assert_eq!(in_time(api.read(&mut [0])).await.unwrap(), 0);
    say(&mut api, "still").await;
    assert_eq!(hear(&mut app, 5).await, "still");
    drop(api);
    assert!(has_ended(&mut app).await);

    let (mut app, mut api) = opened(&rig, &upstream).await;
    // What came from the app looks like the beginning of a head, which at the end of HTTP would be waited for.
    say(&mut app, "first").await;
    assert_eq!(hear(&mut api, 5).await, "first");
    say(&mut api, "last").await;
    api.shutdown().await.unwrap();
    assert_eq!(hear(&mut app, 4).await, "last");
    assert_eq!(in_time(app.read(&mut [0])).await.unwrap(), 0);
    say(&mut app, "still").await;
    assert_eq!(hear(&mut api, 5).await, "still");
    drop(app);
    assert!(has_ended(&mut api).await);
    until_metric(&rig, "bearerd_upstream_connections{route=\"127.0.0.1\"} 0").await;
}

#[tokio::test]
async fn a_side_that_breaks_takes_the_other_with_it() {
    let (rig, upstream) = rig_to_bytes("").await;
    for breaks_at in ["app", "api"] {
        let (app, api) = opened(&rig, &upstream).await;
        let (broken, mut other) = if breaks_at == "app" { (app, api) } else { (api, app) };
        broken.set_zero_linger().unwrap();
        drop(broken);
        assert!(has_ended(&mut other).await, "{breaks_at}");
        // It is not ended from our side alone: what it still says goes nowhere, and it learns so.
        let learns = async {
            while other.write_all(b"is anybody there?").await.is_ok() {
                moment(20).await;
            }
        };
        in_time(learns).await;
    }
    // Both in the middle of a transfer that the other does not take.
    for breaks_at in ["app", "api"] {
        let (app, api) = opened(&rig, &upstream).await;
        let (mut sends, takes) = if breaks_at == "api" { (app, api) } else { (api, app) };
        let piece = vec![b'x'; 64 * 1024];
        let mut sent = 0;
        while let Ok(count) = tokio::time::timeout(Duration::from_millis(300), sends.write(&piece)).await {
            sent += count.unwrap();
            assert!(sent < 64 * 1024 * 1024, "nobody reads, and all of it is taken");
        }
        takes.set_zero_linger().unwrap();
        drop(takes);
        let learns = async { while sends.write_all(&piece).await.is_ok() {} };
        in_time(learns).await;
    }
    until_metric(&rig, "bearerd_upstream_connections{route=\"127.0.0.1\"} 0").await;
}

/// Whoever closes a socket with unread bytes in it sends a reset, which can overtake what was said.
#[tokio::test]
async fn the_last_words_of_a_side_that_breaks_arrive_whatever_is_still_sent_to_it() {
    let (rig, upstream) = rig_to_bytes("").await;
    let (mut app, mut api) = opened(&rig, &upstream).await;
    say(&mut api, "farewell").await;
    assert_eq!(hear(&mut app, 4).await, "fare");
    api.set_zero_linger().unwrap();
    drop(api);
    say(&mut app, &"x".repeat(50_000)).await;
    let mut heard = String::new();
    in_time(app.read_to_string(&mut heard)).await.unwrap();
    assert_eq!(heard, "well");
}

#[tokio::test]
async fn an_app_that_leaves_before_the_answer_takes_the_upstream_with_it() {
    let (rig, upstream) = rig_to_bytes("").await;
    let mut app = rig.app().await;
    app.send(app.head(&asking("/chat", ""))).await;
    let mut api = accepted(&upstream).await;
    drop(app);
    assert!(has_ended(&mut api).await);
}

/// A frame, with a mask of `0xFF` from a client.
fn frame(first: u8, is_clients: bool, payload: &[u8]) -> Vec<u8> {
    let length = match payload.len() {
        short @ 0..=125 => vec![u8::try_from(short).unwrap()],
        long => [&[126], &u16::try_from(long).unwrap().to_be_bytes()[..]].concat(),
    };
    let mask = if is_clients { 0xFF } else { 0 };
    let mut frame = [&[first][..], &length].concat();
    if is_clients {
        frame[1] |= 0x80;
        frame.extend([mask; 4]);
    }
    frame.extend(payload.iter().map(|byte| byte ^ mask));
    frame
}

async fn send(stream: &mut TcpStream, bytes: &[u8]) {
    in_time(stream.write_all(bytes)).await.unwrap();
}

async fn hears(stream: &mut TcpStream, bytes: &[u8]) {
    let mut heard = vec![0; bytes.len()];
    in_time(stream.read_exact(&mut heard)).await.unwrap();
    assert!(heard == bytes, "{} and not {}", heard.escape_ascii(), bytes.escape_ascii());
}

/// "Going away", for a client.
const FAREWELL: [u8; 4] = [0x88, 2, 0x03, 0xE9];

/// The same for a server, with whatever mask.
async fn hears_farewell(stream: &mut TcpStream) {
    let mut heard = [0; 8];
    in_time(stream.read_exact(&mut heard)).await.unwrap();
    let [first, second, a, b, _, _, x, y] = heard;
    assert_eq!([first, second & 0x7F, x ^ a, y ^ b], FAREWELL, "{heard:x?}");
    assert_eq!(second & 0x80, 0x80, "a client masks what it says");
}

#[tokio::test]
async fn at_the_end_both_sides_are_told_to_close_where_a_message_ends() {
    for workers in [1, 2] {
        let (rig, upstream) = rig_with_top(&format!("workers: {workers}\nshutdown: {{timeout: 1h}}")).await;
        let (mut app, mut api) = opened(&rig, &upstream).await;
        let large = vec![b'x'; 60_000];
        for (frame, is_apps) in [
            (frame(0x82, true, &large), true),
            (frame(0x82, false, &large), false),
            // The first half of a message, compressed; and half of a frame.
            (frame(0x41, true, b"hel"), true),
            (frame(0x82, false, &large)[..9].to_vec(), false),
        ] {
            let (from, to) = if is_apps { (&mut app, &mut api) } else { (&mut api, &mut app) };
            tokio::join!(send(from, &frame), hears(to, &frame));
        }
        let Rig { proxy, provider, api: _api, .. } = rig;
        let said = proxy.log();
        let address = proxy.address;
        let ended = tokio::spawn(proxy.end());
        while TcpStream::connect(address).await.is_ok() {
            moment(5).await;
        }
        // All of the message that is on its way comes first, and what belongs between its frames.
        for rest in [frame(0x89, true, b"?"), frame(0x80, true, b"lo")] {
            send(&mut app, &rest).await;
            hears(&mut api, &rest).await;
        }
        hears_farewell(&mut api).await;
        // With what is no more to be passed on right behind.
        send(&mut api, &[&frame(0x82, false, &large)[9..], &frame(0x81, false, b"more")].concat()).await;
        hears(&mut app, &frame(0x82, false, &large)[9..]).await;
        hears(&mut app, &FAREWELL).await;
        send(&mut api, &frame(0x88, false, &FAREWELL[2..])).await;
        send(&mut app, &[frame(0x81, true, b"more"), frame(0x88, true, &FAREWELL[2..])].concat()).await;
        assert!(has_ended(&mut app).await && has_ended(&mut api).await);
        assert_eq!(in_time(ended).await.unwrap().cut_off, 0);
        let said = said.lock().unwrap().clone();
        assert!(said.contains("every exchange was finished: 1 WebSocket"), "{said}");
        drop(provider);
    }
}

#[tokio::test]
async fn a_farewell_of_their_own_is_not_said_twice() {
    let (rig, upstream) = rig_with_top("shutdown: {timeout: 1h}").await;
    let (mut app, mut api) = opened(&rig, &upstream).await;
    let (mut deaf, mut dumb) = opened(&rig, &upstream).await;
    let own = frame(0x88, true, &1000_u16.to_be_bytes());
    send(&mut app, &own).await;
    hears(&mut api, &own).await;
    let ended = tokio::spawn(rig.proxy.end());
    // The app's crosses ours, and so does the API's answer to it.
    hears(&mut app, &FAREWELL).await;
    send(&mut api, &frame(0x88, false, &1000_u16.to_be_bytes())).await;
    assert!(has_ended(&mut app).await && has_ended(&mut api).await);
    // Whoever does not answer is not waited for until the timeout.
    hears(&mut deaf, &FAREWELL).await;
    hears_farewell(&mut dumb).await;
    assert!(has_ended(&mut deaf).await && has_ended(&mut dumb).await);
    assert_eq!(in_time(ended).await.unwrap().cut_off, 0);
}

/// What they say is no WebSocket's, so that there is no place between two messages.
#[tokio::test]
async fn a_drain_waits_for_it_and_then_cuts_it_off() {
    for top in ["shutdown: {timeout: 300ms}", "workers: 2\nshutdown: {timeout: 300ms}"] {
        let (rig, upstream) = rig_with_top(top).await;
        let (mut app, mut api) = opened(&rig, &upstream).await;
        let (mut done, mut other) = opened(&rig, &upstream).await;
        for (one, two) in [(&mut app, &mut api), (&mut done, &mut other)] {
            say(one, "hello").await;
            assert_eq!(hear(two, 5).await, "hello");
            say(two, "hello").await;
            assert_eq!(hear(one, 5).await, "hello");
        }
        let Rig { proxy, provider, api: _api, .. } = rig;
        let said = proxy.log();
        let ended = tokio::spawn(proxy.end());
        // It is in flight: what is said still arrives.
        say(&mut app, "hello").await;
        assert_eq!(hear(&mut api, 5).await, "hello");
        done.shutdown().await.unwrap();
        assert!(has_ended(&mut other).await);
        drop(other);
        assert!(has_ended(&mut done).await);
        assert_eq!(in_time(ended).await.unwrap().cut_off, 1, "{top}");
        assert!(has_ended(&mut app).await && has_ended(&mut api).await);
        let said = said.lock().unwrap().clone();
        assert_eq!(said.matches("ended with 101 in").count(), 2, "both were recorded: {said}");
        drop(provider);
    }
}

#[tokio::test]
async fn a_slow_side_stops_the_other_and_costs_no_more_than_a_piece() {
    let (rig, upstream) = rig_to_bytes("").await;
    let (mut app, mut api) = opened(&rig, &upstream).await;
    for _ in 0..2 {
        let piece = vec![b'x'; 64 * 1024];
        let mut written = 0;
        while let Ok(count) = tokio::time::timeout(Duration::from_millis(300), app.write(&piece)).await {
            written += count.unwrap();
            assert!(written < 64 * 1024 * 1024, "nobody reads, and all of it is taken");
        }
        // The other direction goes on.
        say(&mut api, "still here").await;
        assert_eq!(hear(&mut app, 10).await, "still here");
        assert!(hear(&mut api, written).await.bytes().all(|byte| byte == b'x'));
        // And the other way round.
        std::mem::swap(&mut app, &mut api);
    }
}
