//! Headers: whatever a request says, the API sees one Authorization, and it is ours.

use bearerd::demo::answer::Answer;
use bearerd::demo::api::Verdict;
use bearerd::demo::seen::Seen;
use bearerd::secret::Fingerprint;

use super::{last, targets};
use crate::support::{API, Options, Rig};

fn assert_ours(seen: &Seen, what: &str) {
    assert_eq!((seen.authorization_lines, seen.verdict), (1, Verdict::Good), "{what}");
    assert_eq!(seen.host.as_deref(), Some(API), "{what}");
    assert_eq!(seen.header("connection"), [""; 0], "{what}");
    assert_eq!(seen.header("proxy-authorization"), [""; 0], "{what}");
}

#[tokio::test]
async fn nothing_that_connection_names_takes_our_credential_away_or_gets_through() {
    let rig = Rig::ready(Options::default()).await;
    let mut app = rig.app().await;
    for name in [
        "authorization",
        "AUTHORIZATION",
        "proxy-authorization",
        "host",
        "content-length",
        "transfer-encoding",
        "connection",
        "cookie",
        "x-api-key",
        "accept",
        "te",
        "upgrade",
    ] {
        for lines in [
            format!("Connection: {name}"),
            format!("Connection: keep-alive, {name}"),
            format!("connection: {name},,keep-alive"),
            format!("Connection: keep-alive\nConnection: {name}"),
            format!("Connection: {name}\nCONNECTION: x-other"),
            format!("Connection: x-one\nConnection: , ,\nConnection: \t{name} "),
        ] {
            for own in ["", "Authorization: Bearer stolen\n"] {
                let set = match name {
                    "cookie" | "x-api-key" | "accept" | "te" | "upgrade" => format!("{name}: secret\n"),
                    _ => String::new(),
                };
                app.send(app.head(&format!("POST /x HTTP/1.1\n{set}{own}{lines}\nContent-Length: 4"))).await;
                app.send("body").await;
                assert_eq!(app.answer().await.status, 200, "{lines}");
                let seen = last(&rig);
                assert_ours(&seen, &lines);
                assert_eq!(seen.body_len, 4, "{lines}");
                if !set.is_empty() {
                    assert_eq!(seen.header(name), [""; 0], "{lines}");
                }
            }
        }
    }
    assert_eq!(rig.api.counts().accepted(), 1, "each of them left the connection whole");
}

#[tokio::test]
async fn every_credential_of_the_app_goes() {
    let rig = Rig::ready(Options::default()).await;
    let lines = ["Authorization: Bearer one", "aUTHORIZATION: Basic dHdv", "AUTHORIZATION:three"];
    let proxy = ["Proxy-Authorization: Basic Zm91cg==", "proxy-authorization: Bearer five"];
    for count in 0..=3 {
        for proxies in 0..=2 {
            let lines: Vec<_> =
                lines[..count].iter().chain(&proxy[..proxies]).map(|line| format!("\n{line}")).collect();
            let answer = rig.app().await.ask(&format!("GET /x HTTP/1.1{}", lines.concat())).await;
            assert_eq!(answer.status, 200, "{lines:?}");
            assert_ours(&last(&rig), &format!("{lines:?}"));
        }
    }
}

#[tokio::test]
async fn no_header_about_the_caller_is_added_and_all_others_arrive() {
    let rig = Rig::ready(Options::default()).await;
    rig.get("/bare").await;
    let mut names: Vec<_> = last(&rig).headers.into_iter().map(|(name, _)| name).collect();
    names.sort();
    assert_eq!(names, ["authorization", "host"]);
    let sent = "Accept: */*\nUser-Agent: app/1\nX-Twice: a\nX-Twice: b, c\nX-Empty:\nX-Forwarded-For: kept\nX_Odd: \u{e9}\nCookie: a=b";
    rig.app().await.ask(&format!("GET /full HTTP/1.1\n{sent}")).await;
    let seen = last(&rig);
    assert_eq!(seen.header("x-twice"), ["a", "b, c"]);
    for (name, value) in
        [("accept", "*/*"), ("user-agent", "app/1"), ("x-empty", ""), ("cookie", "a=b"), ("x_odd", "\u{e9}")]
    {
        assert_eq!(seen.header(name), [value], "{name}");
    }
    assert_eq!(seen.headers.len(), 10, "{:?}", seen.headers);
}

#[tokio::test]
async fn what_belongs_to_one_hop_stays_on_it_both_ways() {
    let rig = Rig::ready(Options::default()).await;
    let hop = "Keep-Alive: timeout=5\nProxy-Connection: keep-alive\nTE: trailers\nTrailer: x\nUpgrade: websocket\n\
               HTTP2-Settings: AAMAAABk\nConnection: x-hop, upgrade\nX-Hop: secret";
    rig.api.script().push(Answer::raw(
        "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nconnection: X-Secret, , upgrade\r\nX-Secret: 1\r\n\
         Keep-Alive: timeout=5\r\nProxy-Authenticate: Basic\r\nProxy-Authentication-Info: x\r\nUpgrade: h2c\r\n\
         Trailer: x\r\nTE: x\r\nProxy-Connection: close\r\nWWW-Authenticate: Basic\r\nSet-Cookie: a=1\r\n\
         Set-Cookie: b=2\r\nX-Stays: \u{e9}\r\nContent-Length: 2\r\n\r\nok",
    ));
    let answer = rig.app().await.ask(&format!("GET /x HTTP/1.1\n{hop}\nX-Stays: yes")).await;
    let seen = last(&rig);
    let mut names: Vec<_> = seen.headers.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    // That the app takes trailers is said anew.
    assert_eq!(names, ["authorization", "connection", "host", "te", "x-stays"]);
    assert_eq!((seen.header("connection"), seen.header("te")), (vec!["te"], vec!["trailers"]));
    assert_eq!((answer.status, answer.text()), (200, "ok"));
    let mut came = answer.headers;
    came.retain(|(name, _)| name != "date");
    came.sort();
    let came: Vec<_> = came.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(
        came,
        [
            ("content-length", "2"),
            ("set-cookie", "a=1"),
            ("set-cookie", "b=2"),
            ("www-authenticate", "Basic"),
            ("x-stays", "\u{e9}"),
        ]
    );
}

#[tokio::test]
async fn a_route_sets_headers_of_its_own_in_the_place_of_the_apps() {
    let rig =
        Rig::ready(Options { route: "headers: {X-Api-Key: ours, Accept: text/plain}", ..Options::default() }).await;
    rig.app().await.ask("GET /x HTTP/1.1\nx-api-key: mine\nX-API-KEY: mine too\nConnection: x-api-key").await;
    let seen = last(&rig);
    assert_eq!((seen.header("x-api-key"), seen.header("accept")), (vec!["ours"], vec!["text/plain"]));
    assert_ours(&seen, "with headers");
}

#[tokio::test]
async fn another_spelling_of_a_header_of_ours_does_not_get_through() {
    let route = "inject: {header: X-Token, scheme: \"\"}\nheaders: {X-Api-Key: ours}";
    let rig = Rig::ready(Options { route, ..Options::default() }).await;
    rig.api.script().always(Answer::status(200));
    let aliases = "x_token: mine\nX_Api_Key: mine\nx_api-key: mine\nX-API_KEY: mine\nproxy_authorization: mine";
    rig.app().await.ask(&format!("GET /x HTTP/1.1\n{aliases}\nX_Other: stays")).await;
    let mut names: Vec<_> = last(&rig).headers.into_iter().map(|(name, _)| name).collect();
    names.sort();
    assert_eq!(names, ["host", "x-api-key", "x-token", "x_other"]);
    assert_eq!(last(&rig).header("x-api-key"), ["ours"]);
}

#[tokio::test]
async fn a_route_can_reject_credentials_of_the_app() {
    let rig = Rig::ready(Options { route: "authorization: reject", ..Options::default() }).await;
    let mut app = rig.app().await;
    for line in ["Authorization: Bearer mine", "aUTHORIZATION:", "Connection: authorization\nAuthorization: Basic eA=="]
    {
        let answer = app.ask(&format!("GET /x HTTP/1.1\n{line}")).await;
        assert_eq!((answer.status, answer.reason().as_str()), (403, "own_credential"), "{line}");
    }
    assert!(targets(&rig).is_empty());
    assert_eq!(app.get("/x").await.status, 200, "the connection goes on");
}

#[tokio::test]
async fn a_token_in_a_header_of_its_own_replaces_the_apps() {
    let rig = Rig::ready(Options { route: "inject: {header: X-Token, scheme: \"\"}", ..Options::default() }).await;
    rig.api.script().always(Answer::status(200));
    let head = "GET /x HTTP/1.1\nx-token: mine\nX-TOKEN: mine too\nAuthorization: Basic eA==\nConnection: x-token";
    assert_eq!(rig.app().await.ask(head).await.status, 200);
    let seen = last(&rig);
    let issued = rig.provider.calls()[0].issued.unwrap();
    let tokens = seen.header("x-token");
    assert_eq!(tokens.len(), 1);
    assert_eq!(Fingerprint::of(tokens[0].as_bytes()), issued);
    assert_eq!(seen.header("authorization"), [""; 0]);
}
