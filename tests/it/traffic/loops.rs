//! Where no connection leads: back to ourselves, by whatever name, and where no API is.

use super::{in_time, last, rig_to_bytes, rig_with, route, targets};
use crate::support::{App, Options, Rig};

/// A port that was free a moment ago, for a configuration that has to name it twice.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[tokio::test]
async fn an_upstream_that_is_ourselves_is_a_loop_after_one_hop() {
    let port = free_port();
    let own = |name: &str, to: &str| {
        format!(
            "  - {{name: {name}, match: {{path: /{name}}}, upstream: '{to}', token: none, allow_plaintext: true}}\n"
        )
    };
    let rig = rig_with(|rig| {
        let routes = [
            own("literal", &format!("http://127.0.0.1:{port}")),
            own("name", &format!("http://localhost:{port}")),
            own("mapped", &format!("http://[::ffff:127.0.0.1]:{port}")),
            own("tls", &format!("https://localhost:{port}")),
            route(rig, "api", "", ""),
        ];
        format!("listen: 127.0.0.1:{port}\nroutes:\n{}", routes.concat())
    })
    .await;
    for path in ["/literal", "/name", "/mapped", "/tls"] {
        let answer = rig.get(path).await;
        assert_eq!((answer.status, answer.reason().as_str()), (508, "loop"), "{path}: {answer:?}");
    }
    let answer = rig.app().await.ask(&format!("GET http://localhost:{port}/ HTTP/1.1\nHost: localhost:{port}")).await;
    assert_eq!((answer.status, answer.reason().as_str()), (508, "loop"));
    assert!(targets(&rig).is_empty());
    let metrics = rig.proxy.page("/metrics").await;
    // Each ended where it began: a second hop would have been counted as a request too.
    assert!(metrics.text().contains("bearerd_refused_total{reason=\"loop\"} 5\n"), "{}", metrics.text());
}

#[tokio::test]
async fn with_via_a_request_that_comes_back_is_known_again() {
    let (rig, upstream) = rig_to_bytes("via: true").await;
    let asked = tokio::spawn(async move {
        let mut app = App::connect(rig.proxy.address).await;
        let answer = app.ask("GET /x HTTP/1.1\nVia: 1.0 fred").await;
        (rig, answer)
    });
    let (mut stream, _) = in_time(upstream.accept()).await.unwrap();
    let head = super::read_until(&mut stream, "\r\n\r\n").await;
    let via: Vec<&str> = head.lines().filter_map(|line| line.strip_prefix("via: ")).collect();
    let [_, ours] = via[..] else { panic!("{head}") };
    assert!(via[0] == "1.0 fred" && ours.starts_with("1.1 bearerd-"), "{via:?}");
    tokio::io::AsyncWriteExt::write_all(&mut stream, b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    let (rig, answer) = asked.await.unwrap();
    assert_eq!((answer.status, answer.header("via")), (200, Some(ours)));
    let answer = rig.app().await.ask(&format!("GET /x HTTP/1.1\nVia: 1.1 other, {ours}, 1.1 third")).await;
    assert_eq!((answer.status, answer.reason().as_str()), (508, "loop"));
}

#[tokio::test]
async fn without_via_nothing_says_who_passed_it_on() {
    let rig = Rig::ready(Options::default()).await;
    let answer = rig.get("/").await;
    let seen = last(&rig);
    assert_eq!(answer.header("via"), None);
    for name in ["via", "forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip"] {
        assert!(seen.header(name).is_empty(), "{seen:?}");
    }
}

#[tokio::test]
async fn a_name_that_leads_to_our_own_pages_does_not_get_there_unless_it_says_so() {
    let port = free_port();
    let rig = rig_with(|rig| {
        let to = |name: &str, to: &str| {
            format!(
                "  - {{name: {name}, match: {{path: /{name}}}, strip_prefix: true, upstream: '{to}', token: none}}\n"
            )
        };
        let routes = [to("named", &format!("http://127.0.0.1:{port}")), route(rig, "api", "", "")];
        format!("health: 127.0.0.1:{port}\nroutes:\n{}", routes.concat())
    })
    .await;
    let answer = rig.get("/named/livez").await;
    assert_eq!((answer.status, answer.text()), (200, "ok\n"), "the route says which address");
}
