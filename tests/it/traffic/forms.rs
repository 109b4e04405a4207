//! Request forms: what a request says it is for, and that it arrives as it was written or not at all.

use tokio::net::TcpListener;

use super::{last, targets};
use crate::support::{API, Options, Rig};

/// Sends heads on connections of their own; each is refused with this status and reason, and nothing arrives.
async fn all_refused(rig: &Rig, heads: &[String], status: u16, reason: &str) {
    for head in heads {
        let answer = rig.app().await.ask(head).await;
        assert_eq!((answer.status, answer.reason().as_str()), (status, reason), "{head}");
    }
    assert!(rig.api.requests().is_empty(), "{:?}", targets(rig));
}

#[tokio::test]
async fn a_url_is_taken_whatever_its_scheme_and_port_say() {
    let rig = Rig::ready(Options::default()).await;
    for (target, host) in [
        (format!("http://{API}/x"), API.to_owned()),
        (format!("http://{API}:80/x"), API.to_owned()),
        (format!("http://{API}/x"), format!("{API}:80")),
        (format!("https://{API}/x"), format!("{API}:443")),
        (format!("https://{API}:443/x"), API.to_owned()),
        ("HTTP://API.Example.TEST./x".to_owned(), "Api.example.test".to_owned()),
    ] {
        let answer = rig.app().await.ask(&format!("GET {target} HTTP/1.1\nHost: {host}")).await;
        assert_eq!(answer.status, 200, "{target} {host}");
        assert_eq!((last(&rig).target.as_str(), last(&rig).host.as_deref()), ("/x", Some(API)), "{target} {host}");
    }
    let answer = rig.app().await.ask(&format!("GET http://{API}?q HTTP/1.1\nHost: {API}")).await;
    assert_eq!((answer.status, last(&rig).target.as_str()), (200, "/?q"));
}

#[tokio::test]
async fn a_host_that_disagrees_with_the_url_is_ambiguous() {
    let rig = Rig::ready(Options::default()).await;
    let heads = [
        format!("GET http://{API}/ HTTP/1.1\nHost: localhost"),
        format!("GET http://localhost/ HTTP/1.1\nHost: {API}"),
        format!("GET http://{API}/ HTTP/1.1\nHost: {API}:8080"),
        format!("GET https://{API}/ HTTP/1.1\nHost: {API}:80"),
        format!("GET / HTTP/1.1\nHost: {API}\nHost: {API}"),
        "GET / HTTP/1.1\nHost: localhost\nHost: evil.test".to_owned(),
        "GET / HTTP/1.1\nHost: user:password@localhost".to_owned(),
        "GET / HTTP/1.1\nHost: localhost:99999".to_owned(),
        "GET / HTTP/1.1\nHost: localhost:0".to_owned(),
        "GET / HTTP/1.1\nHost: localhost:".to_owned(),
        "GET / HTTP/1.1\nHost: 127.1".to_owned(),
        "GET / HTTP/1.1\nHost: 0x7f.0.0.1".to_owned(),
        "GET / HTTP/1.1\nHost: 2130706433".to_owned(),
        "GET / HTTP/1.1\nHost: localhost, evil.test".to_owned(),
        "GET / HTTP/1.1\nHost: localhost/x".to_owned(),
        "GET / HTTP/1.1\nHost: ".to_owned(),
    ];
    all_refused(&rig, &heads, 400, "ambiguous_host").await;
    let mut app = rig.app().await;
    assert_eq!(app.ask(&heads[0]).await.header("connection"), Some("close"));
    assert!(app.is_closed().await);
}

#[tokio::test]
async fn a_target_that_parsers_disagree_about_is_a_bad_request() {
    let rig = Rig::ready(Options::default()).await;
    for authority in
        ["u:p@api.example.test", "api.example.test:99999", "api.example.test:0", "127.1", "0x7f.1", "a..test"]
    {
        let answer = rig.app().await.ask(&format!("GET http://{authority}/ HTTP/1.1\nHost: {API}")).await;
        assert_eq!((answer.status, answer.reason().as_str()), (400, "bad_request"), "{authority}");
    }
    let heads = [
        format!("GET ftp://{API}/ HTTP/1.1\nHost: {API}"),
        format!("GET ws://{API}/ HTTP/1.1\nHost: {API}"),
        format!("GET {API}:443 HTTP/1.1\nHost: {API}"),
    ];
    all_refused(&rig, &heads, 400, "bad_request").await;
    let mut app = rig.app().await;
    app.send("GET / HTTP/1.1\r\n\r\n").await;
    assert_eq!(app.answer().await.reason(), "bad_request", "HTTP/1.1 has a Host");
    assert!(app.is_closed().await);
    assert!(rig.api.requests().is_empty());
}

#[tokio::test]
async fn nothing_is_dialled_that_no_route_names() {
    let rig = Rig::ready(Options::default()).await;
    let trap = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let trapped = trap.local_addr().unwrap();
    let api = rig.api.addr();
    let (before, admin) = (rig.api.counts().accepted(), rig.proxy.admin);
    let places = [
        format!("http://{trapped}"),
        format!("https://{trapped}"),
        format!("http://{api}"),
        format!("http://localhost:{}", trapped.port()),
        format!("http://[::ffff:127.0.0.1]:{}", trapped.port()),
        format!("http://{admin}"),
        format!("http://{}", rig.proxy.address),
        format!("http://{API}:8443"),
        format!("http://sub.{API}"),
        format!("http://{API}.evil.test"),
        "http://169.254.169.254".to_owned(),
        "http://[fd00:ec2::254]".to_owned(),
    ];
    for place in &places {
        let authority = place.split_once("//").unwrap().1;
        let mut app = rig.app().await;
        let answer = app.ask(&format!("GET {place}/latest HTTP/1.1\nHost: {authority}")).await;
        assert_eq!((answer.status, answer.reason().as_str()), (403, "no_route"), "{place}");
        assert!(app.is_closed().await, "{place}");
    }
    let dialled = tokio::time::timeout(std::time::Duration::from_millis(50), trap.accept()).await;
    assert!(dialled.is_err(), "somebody came");
    assert_eq!(rig.api.counts().accepted(), before);
}

#[tokio::test]
async fn connect_is_refused_and_nothing_behind_it_is_read() {
    let rig = Rig::ready(Options::default()).await;
    for place in [format!("{API}:443"), "evil.test:443".to_owned(), format!("{}", rig.api.addr())] {
        let mut app = rig.app().await;
        app.send(format!(
            "CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n\r\nGET /behind HTTP/1.1\r\nHost: {API}\r\n\r\n"
        ))
        .await;
        let answer = app.answer().await;
        assert_eq!((answer.status, answer.reason().as_str()), (403, "no_route"), "{place}");
        assert!(app.is_closed().await, "{place}");
    }
    assert!(rig.api.requests().is_empty());
}

#[tokio::test]
async fn trace_would_read_the_token_back_and_a_star_names_no_upstream() {
    let rig = Rig::ready(Options::default()).await;
    all_refused(&rig, &["TRACE /x HTTP/1.1".to_owned()], 403, "not_allowed").await;
    all_refused(&rig, &[format!("TRACE http://{API}/x HTTP/1.1\nHost: {API}")], 403, "not_allowed").await;
    all_refused(&rig, &["OPTIONS * HTTP/1.1".to_owned()], 400, "bad_path").await;
}

#[tokio::test]
async fn http_1_0_is_served_and_kept_alive_only_if_asked() {
    let rig = Rig::ready(Options::default()).await;
    for head in ["GET /old HTTP/1.0\r\n\r\n", "GET /old HTTP/1.0\r\nHost: localhost\r\n\r\n"] {
        let mut app = rig.app().await;
        app.send(head).await;
        assert_eq!(app.answer().await.status, 200, "{head}");
        assert!(app.is_closed().await, "{head}");
        assert_eq!(last(&rig).host.as_deref(), Some(API));
    }
    let mut app = rig.app().await;
    for _ in 0..2 {
        app.send("GET /old HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").await;
        assert_eq!(app.answer().await.status, 200);
    }
    assert_eq!(rig.api.requests().len(), 4);
}

const DOTTED: [&str; 21] = [
    "/..",
    "/.",
    "/../x",
    "/a/../b",
    "/a/./b",
    "/a/..",
    "/%2e%2e/x",
    "/a/%2E./b",
    "/a/.%2e",
    "/a/%2e/b",
    "/a/..%2fb",
    "/a%2f..%2fb",
    "/a\\..\\b",
    "/a/..\\b",
    "/a%5c..%5Cb",
    "/a/..;/b",
    "/a/..;x=1/b",
    "/a/.;x/b",
    "/a/%2e%2e;x",
    "//..",
    "/a/..?q",
];

#[tokio::test]
async fn dot_segments_are_refused_in_both_forms() {
    let rig = Rig::ready(Options::default()).await;
    let heads: Vec<_> = DOTTED
        .iter()
        .flat_map(|path| [format!("GET {path} HTTP/1.1"), format!("GET http://{API}{path} HTTP/1.1\nHost: {API}")])
        .collect();
    all_refused(&rig, &heads, 400, "bad_path").await;
}

#[tokio::test]
async fn path_and_query_arrive_byte_for_byte() {
    let rig = Rig::ready(Options::default()).await;
    let mut app = rig.app().await;
    for path in [
        "/",
        "//",
        "//double//slash/",
        "/a%2Fb%20c%2f",
        "/%e2%82%ac/%E2%82%AC",
        "/caf\u{e9}?q=\u{20ac}",
        "/semi;colon=1;v/x;y",
        "/empty?",
        "/query?a=b&c=%26&&=;d?e=/../f",
        "/~!$&'()*+,=:@-._",
        "/...?..",
        "/a%00b%zz%",
        "/a.b/..c/d..",
        "/a\\b",
    ] {
        assert_eq!(app.get(path).await.status, 200, "{path}");
        assert_eq!(last(&rig).target, path);
        let answer = app.ask(&format!("GET http://{API}{path} HTTP/1.1\nHost: {API}")).await;
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(last(&rig).target, path);
    }
}
