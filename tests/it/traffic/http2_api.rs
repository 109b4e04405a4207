//! An API that speaks HTTP/2: who chooses, what arrives, how many connections there are, and when they end.

use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use bearerd::demo::answer::{Answer, Latch, Piece};
use bearerd::demo::api::{self, Api};
use bearerd::demo::certs::Ca;
use http::Version;
use tokio::io::AsyncWriteExt as _;
use tokio::task::JoinSet;

use super::{in_time, last, read_until, rig_with, route, targets};
use crate::support::{API, PATIENCE, Proxy, Rig, eventually};

/// A rig whose API speaks HTTP/2, with so many streams a connection; `more` are further lines of its route.
pub(super) async fn rig_to_http2(streams: u32, more: &str) -> Rig {
    rig_to(Some(streams), true, more).await
}

/// The same of HTTP/1 alone.
pub(super) async fn rig_to_http1(more: &str) -> Rig {
    rig_to(None, true, more).await
}

pub(super) async fn rig_to(http2: Option<u32>, tls: bool, more: &str) -> Rig {
    let mut rig = Rig::ready(crate::support::Options::default()).await;
    let mut settings = api::Settings::new(rig.ca.server(&[API]).unwrap(), rig.provider.verifier());
    settings.tls = settings.tls.filter(|_| tls);
    settings.host = API.to_owned();
    settings.http2 = http2;
    rig.api = Api::start(settings).await.unwrap();
    let route = match tls {
        true => route(&rig, "api", "", more),
        false => format!("  - name: api\n    upstream: http://{}\n    token: main\n    {more}\n", rig.api.addr()),
    };
    again(rig, &format!("routes:\n{route}")).await
}

/// The same rig, with the proxy started anew.
pub(super) async fn again(mut rig: Rig, document: &str) -> Rig {
    let head = std::fs::read_to_string(rig.folder.path("bearerd.yaml")).unwrap();
    let head = head.split("routes:").next().unwrap().to_owned();
    rig.folder.write("bearerd.yaml", &(head + document));
    rig.proxy = Proxy::start(&rig.folder);
    rig.proxy.until_ready().await;
    rig
}

/// So many requests at once, each by an app of its own; their answers.
async fn at_once(rig: &Rig, count: usize, head: &str) -> JoinSet<crate::support::Answer> {
    let mut asked = JoinSet::new();
    for number in 0..count {
        let (mut app, head) = (rig.app().await, head.replace('#', &number.to_string()));
        asked.spawn(async move { app.ask(&head).await });
    }
    asked
}

async fn all_well(asked: JoinSet<crate::support::Answer>) {
    for answer in in_time(asked.join_all()).await {
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
}

fn connections(rig: &Rig) -> u64 {
    rig.api.counts().accepted()
}

#[tokio::test]
async fn the_server_chooses_unless_the_route_does() {
    let cases = [
        (Some(100), true, "", Version::HTTP_2),
        (Some(100), true, "http: auto", Version::HTTP_2),
        (Some(100), true, "http: http1", Version::HTTP_11),
        (Some(100), true, "http: http2", Version::HTTP_2),
        (Some(100), false, "http: http2", Version::HTTP_2),
        (None, true, "", Version::HTTP_11),
        (None, false, "", Version::HTTP_11),
        (None, true, "http: http1", Version::HTTP_11),
    ];
    for (http2, tls, more, expected) in cases {
        let rig = rig_to(http2, tls, more).await;
        for number in 0..3 {
            assert_eq!(rig.get("/a%2Fb?c").await.status, 200, "{more}");
            let seen = last(&rig);
            assert_eq!((seen.version, seen.connection_id), (expected, 1), "{more}, request {number}");
            assert_eq!((seen.target.as_str(), seen.authorization_lines), ("/a%2Fb?c", 1));
        }
        assert_eq!(targets(&rig).len(), 3, "{more}");
    }
}

#[tokio::test]
async fn who_insists_on_http2_is_told_that_there_is_none() {
    for tls in [true, false] {
        let rig = rig_to(None, tls, "http: http2").await;
        let answer = rig.get("/").await;
        assert_eq!((answer.status, answer.reason().as_str()), (502, "bad_upstream"));
        rig.proxy.until_said("leave `http` out to take what it offers").await;
        assert!(rig.api.requests().is_empty());
    }
}

#[tokio::test]
async fn what_arrives_is_what_http2_has() {
    let rig = rig_to_http2(100, "").await;
    let mut app = rig.app().await;
    app.send(app.head("POST /x?y HTTP/1.1\nTransfer-Encoding: chunked\nConnection: x-gone\nX-Gone: 1\nCookie: a=1"))
        .await;
    app.send("5\r\nhello\r\n0\r\n\r\n").await;
    assert_eq!(app.answer().await.status, 200);
    let seen = last(&rig);
    assert_eq!((seen.version, seen.host.as_deref()), (Version::HTTP_2, Some(API)));
    assert_eq!((seen.body_len, seen.target.as_str()), (5, "/x?y"));
    for gone in ["host", "transfer-encoding", "connection", "x-gone", "content-length"] {
        assert!(seen.header(gone).is_empty(), "{gone}: {:?}", seen.headers);
    }
    assert_eq!(seen.header("cookie"), ["a=1"]);
    // The same connection: what a length announces arrives with it, and nothing looks like a body that is none.
    app.send(app.head("PUT /z HTTP/1.1\nContent-Length: 3")).await;
    app.send("abc").await;
    assert_eq!(app.answer().await.status, 200);
    assert_eq!((last(&rig).header("content-length"), last(&rig).body_len), (vec!["3"], 3));
    app.send(app.head("HEAD / HTTP/1.1")).await;
    assert_eq!(app.answer_to_head().await.status, 200);
    assert_eq!(app.get("/").await.status, 200);
    assert_eq!(connections(&rig), 1);
}

/// As many connections as a hundred requests need, and no more: nothing waits for a stream, and nothing fails.
#[tokio::test]
async fn when_streams_run_out_there_is_another_connection() {
    let rig = rig_to_http2(10, "").await;
    let latch = Latch::new();
    rig.api.script().always(Answer::Serve.held_by(&latch));
    let asked = at_once(&rig, 100, "GET /# HTTP/1.1").await;
    rig.api.wait_for(100, PATIENCE).await.unwrap();
    // The first to come knew nothing; those that waited for it know how many more are needed.
    assert!((10..=11).contains(&connections(&rig)), "{} connections", connections(&rig));
    latch.open();
    all_well(asked).await;
    let before = connections(&rig);
    all_well(at_once(&rig, 50, "GET /again/# HTTP/1.1").await).await;
    assert_eq!(connections(&rig), before, "what is open is used");
}

#[tokio::test]
async fn a_crowd_at_the_start_waits_for_one_connection() {
    let rig = rig_to_http2(100, "").await;
    let latch = Latch::new();
    rig.api.script().always(Answer::Serve.held_by(&latch));
    let asked = at_once(&rig, 64, "GET /# HTTP/1.1").await;
    rig.api.wait_for(64, PATIENCE).await.unwrap();
    assert_eq!(connections(&rig), 1);
    latch.open();
    all_well(asked).await;
}

#[tokio::test]
async fn a_crowd_at_the_start_gets_a_connection_each_where_there_is_http1_alone() {
    let rig = rig_to(None, true, "").await;
    let latch = Latch::new();
    rig.api.script().always(Answer::Serve.held_by(&latch));
    let asked = at_once(&rig, 30, "GET /# HTTP/1.1").await;
    rig.api.wait_for(30, PATIENCE).await.unwrap();
    assert_eq!(connections(&rig), 30);
    latch.open();
    all_well(asked).await;
}

/// An upstream that ends every connection is not asked once for each of a crowd.
#[tokio::test]
async fn those_who_wait_for_a_connection_share_its_failure() {
    let upstream = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = upstream.local_addr().unwrap();
    let lines = format!("routes:\n  - upstream: https://{address}\n    token: main\n");
    let rig = rig_with(|_| lines).await;
    let asked = at_once(&rig, 40, "GET /# HTTP/1.1").await;
    let (first, _) = in_time(upstream.accept()).await.unwrap();
    // Those who come a little late have one made for themselves, and share that.
    super::moment(100).await;
    drop(first);
    let dropping = async {
        let mut more = 0;
        while let Ok((stream, _)) = upstream.accept().await {
            drop(stream);
            more += 1;
            assert!(more < 10, "a connection for each");
        }
    };
    let answers = tokio::select! {
        answers = asked.join_all() => answers,
        () = dropping => unreachable!("it listens for ever"),
    };
    for answer in answers {
        assert_eq!(answer.status, 502, "{}", answer.text());
    }
}

#[tokio::test]
async fn an_app_that_goes_away_ends_its_stream_and_not_the_connection() {
    let rig = rig_to_http2(100, "").await;
    rig.api.script().push(Answer::status(200).piece(Piece::Send("begun".into())).piece(Piece::Stall));
    rig.api.script().push(Answer::hang().after(Duration::from_secs(600)));
    let latch = Latch::new();
    rig.api.script().push(Answer::Serve.held_by(&latch));
    // One that reads, and one that has no answer yet.
    for target in ["/streams", "/waits"] {
        let mut app = rig.app().await;
        app.send(app.head(&format!("GET {target} HTTP/1.1"))).await;
        if target == "/streams" {
            let mut stream = app.into_stream();
            read_until(&mut stream, "begun").await;
            drop(stream);
        } else {
            rig.api.wait_for(2, PATIENCE).await.unwrap();
        }
    }
    let mut stays = rig.app().await;
    stays.send(stays.head("GET /stays HTTP/1.1")).await;
    eventually("the others' streams are reset", || rig.api.counts().in_flight.now() == 1).await;
    latch.open();
    assert_eq!(stays.answer().await.status, 200);
    assert_eq!(rig.get("/next").await.status, 200);
    assert_eq!(connections(&rig), 1);
}

#[tokio::test]
async fn large_bodies_go_both_ways() {
    const SIZE: usize = 32 * 1024 * 1024;
    let rig = rig_to_http2(100, "").await;
    let body: Vec<u8> = (0..SIZE).map(|at| (at / 251 + at) as u8).collect();
    let hash = digest(&SHA256, &body);
    let hex: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    rig.api.script().always(Answer::Mirror);
    let mut app = rig.app().await;
    let head = app.head(&format!("POST /large HTTP/1.1\nContent-Length: {SIZE}"));
    app.send(head).await;
    let (mut read, mut write) = app.into_stream().into_split();
    let writing = async {
        in_time(write.write_all(&body)).await.unwrap();
    };
    let reading = async {
        let head = read_until(&mut read, "\r\n\r\n").await;
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        let mut app = Vec::with_capacity(SIZE);
        let mut piece = vec![0; 64 * 1024];
        while app.len() < SIZE {
            let length = in_time(tokio::io::AsyncReadExt::read(&mut read, &mut piece)).await.unwrap();
            assert!(length > 0, "it ended after {}", app.len());
            app.extend_from_slice(&piece[..length]);
        }
        app
    };
    let ((), came) = tokio::join!(writing, reading);
    assert!(came == body);
    let seen = last(&rig);
    assert_eq!((seen.version, seen.body_len, seen.body_sha256), (Version::HTTP_2, SIZE as u64, Some(hex)));
}

/// An app that does not read keeps what is on its way to it, and nobody else.
#[tokio::test]
async fn an_app_that_does_not_read_holds_nobody_up() {
    let rig = rig_to_http2(100, "").await;
    rig.api.script().when(|request| {
        (request.uri.path() == "/large").then(|| Answer::status(200).piece(Piece::Repeat(b'x', 1 << 30)).into())
    });
    let mut slow = Vec::new();
    for _ in 0..40 {
        let mut app = rig.app().await;
        app.send(app.head("GET /large HTTP/1.1")).await;
        let mut stream = app.into_stream();
        read_until(&mut stream, "\r\n\r\n").await;
        slow.push(stream);
    }
    for _ in 0..20 {
        assert_eq!(rig.get("/small").await.status, 200);
    }
    assert_eq!(connections(&rig), 1);
}

#[tokio::test]
async fn a_client_certificate_and_an_authority_that_is_added_count_over_http2() {
    let rig = Rig::ready(crate::support::Options::default()).await;
    let private = Ca::new().unwrap();
    let identity = private.identity(&["app.example.test"]).unwrap();
    rig.folder.write("private.pem", &private.pem());
    rig.folder.write("app.pem", &identity.cert_pem);
    rig.folder.write("app.key", &identity.key_pem);
    let mut settings = api::Settings::new(private.server_for_clients(&[API]).unwrap(), rig.provider.verifier());
    (settings.http2, settings.host) = (Some(100), API.to_owned());
    let mut rig = rig;
    rig.api = Api::start(settings).await.unwrap();
    let at = rig.api.addr();
    for (tls, status) in [
        ("{ca_file: ca.pem, extra_ca_file: private.pem, cert_file: app.pem, key_file: app.key}", 200),
        ("{ca_file: ca.pem, extra_ca_file: private.pem}", 502),
        ("{ca_file: ca.pem, cert_file: app.pem, key_file: app.key}", 502),
        // Beside the system's authorities, which are none of ours.
        ("{extra_ca_file: private.pem, cert_file: app.pem, key_file: app.key}", 200),
        ("{extra_ca_file: ca.pem, cert_file: app.pem, key_file: app.key}", 502),
        ("{cert_file: app.pem, key_file: app.key}", 502),
    ] {
        let route =
            format!("routes:\n  - upstream: https://{API}\n    connect_to: {at}\n    token: main\n    tls: {tls}\n");
        rig = again(rig, &route).await;
        assert_eq!(rig.get("/").await.status, status, "{tls}");
    }
    assert_eq!((targets(&rig).len(), last(&rig).version), (2, Version::HTTP_2));
}

#[tokio::test]
async fn a_head_that_is_too_large_is_an_error_and_ends_one_stream() {
    let rig = rig_to_http2(100, "").await;
    let large = |size: usize| Answer::status(200).header("x-large", &"x".repeat(size));
    for (size, status) in [(15_000, 200), (200_000, 200), (300_000, 502)] {
        rig.api.script().always(large(size));
        assert_eq!(rig.get("/").await.status, status, "{size}");
    }
    assert_eq!(rig.api.requests().len(), 3, "the stream was at fault, not the connection");
    rig.api.script().clear();
    // What an app may send by its own limit arrives.
    let large = "y".repeat(50_000);
    assert_eq!(rig.app().await.ask(&format!("GET / HTTP/1.1\nX-Large: {large}")).await.status, 200);
    assert_eq!(last(&rig).header("x-large"), [large]);
    assert_eq!(connections(&rig), 1);
}

#[tokio::test]
async fn idle_connections_are_closed_and_old_ones_take_nothing_new() {
    let rig = rig_to_http2(100, "timeouts: {pool_idle: 300ms}").await;
    assert_eq!(rig.get("/").await.status, 200);
    eventually("the connection is closed", || rig.api.counts().open.now() == 0).await;
    assert_eq!(rig.get("/").await.status, 200);
    assert_eq!(connections(&rig), 2);

    let rig = rig_to_http2(100, "timeouts: {max_age: 300ms}").await;
    let latch = Latch::new();
    rig.api.script().push(Answer::Serve.held_by(&latch));
    let mut old = rig.app().await;
    old.send(old.head("GET /old HTTP/1.1")).await;
    rig.api.wait_for(1, PATIENCE).await.unwrap();
    super::moment(400).await;
    assert_eq!(rig.get("/new").await.status, 200);
    assert_eq!((connections(&rig), last(&rig).connection_id), (2, 2));
    latch.open();
    assert_eq!(old.answer().await.status, 200, "what is open goes on");
    eventually("both are closed", || rig.api.counts().open.now() == 0).await;
    let page = rig.proxy.page("/metrics").await;
    assert!(page.text().contains("bearerd_upstream_connections{route=\"api\"} 0"), "{}", page.text());
}

/// gRPC's servers end a connection with a quiet call on it that is pinged every ten seconds, after forty.
#[tokio::test]
async fn calls_of_grpc_go_over_connections_that_ping_seldom() {
    let rig = rig_to_http2(100, "").await;
    let call = "POST /call HTTP/1.1\nContent-Type: application/grpc\nContent-Length: 0";
    for (head, connection) in [("GET / HTTP/1.1", 1), (call, 2), (call, 2), ("GET / HTTP/1.1", 2)] {
        assert_eq!(rig.app().await.ask(head).await.status, 200);
        assert_eq!(last(&rig).connection_id, connection, "{head}");
    }
    eventually("the first is closed", || rig.api.counts().open.now() == 1).await;
}

#[tokio::test]
async fn an_api_that_starts_anew_costs_no_request() {
    let rig = rig_to_http2(100, "").await;
    for number in 1..=4 {
        let mut app = rig.app().await;
        app.send(app.head(&format!("POST /{number} HTTP/1.1\nContent-Length: 2"))).await;
        app.send("ab").await;
        assert_eq!(app.answer().await.status, 200, "POST {number}");
        rig.api.restart().await.unwrap();
        // hyper has heard of it; before that a request may be lost, as in HTTP/1.
        let page =
            || async { rig.proxy.page("/metrics").await.text().contains("upstream_connections{route=\"api\"} 0") };
        in_time(async { while !page().await {} }).await;
    }
    assert_eq!(targets(&rig), ["/1", "/2", "/3", "/4"]);
}

/// What is written for HTTP/2 goes out again by HTTP/1 as HTTP/1 has it: the server may be another one the next time.
#[tokio::test]
async fn a_route_follows_when_the_server_changes_its_mind() {
    let rig = rig_to_http2(100, "").await;
    assert_eq!(rig.get("/2").await.status, 200);
    let at = rig.api.addr().port();
    rig.api.stop().await;
    let mut settings = api::Settings::new(rig.ca.server(&[API]).unwrap(), rig.provider.verifier());
    (settings.port, settings.host) = (at, API.to_owned());
    let api = Api::start(settings).await.unwrap();
    let mut app = rig.app().await;
    app.send(app.head("POST /1 HTTP/1.1\nTransfer-Encoding: chunked")).await;
    app.send("2\r\nab\r\n0\r\n\r\n").await;
    assert_eq!(app.answer().await.status, 200);
    let seen = &api.requests()[0];
    assert_eq!((seen.version, seen.target.as_str(), seen.body_len), (Version::HTTP_11, "/1", 2));
    assert_eq!((seen.header("host"), seen.header("transfer-encoding")), (vec![API], vec!["chunked"]));
}
