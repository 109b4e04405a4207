//! CONNECT to what `tunnel` names: passed on byte for byte, without a token, and to nowhere else.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::{in_time, read_until, rig_with, route, targets};
use crate::support::{API, Answer, App, Rig, eventually};

/// A rig that lets CONNECT lead to these places, besides a route to its API.
async fn rig_to(tunnel: &str, top: &str) -> Rig {
    rig_with(|rig| format!("tunnel: [{tunnel}]\n{top}\nroutes:\n{}", route(rig, "api", "", ""))).await
}

/// A server that a tunnel leads to, and a rig that says so.
async fn rig_and_far(top: &str) -> (Rig, TcpListener, String) {
    let far = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let place = far.local_addr().unwrap().to_string();
    (rig_to(&format!("'{place}'"), top).await, far, place)
}

async fn connect(rig: &Rig, place: &str) -> (Answer, App) {
    let mut app = rig.app().await;
    app.send(format!("CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n\r\n")).await;
    (app.answer_to_head().await, app)
}

/// Both ends of a tunnel.
async fn tunnel(rig: &Rig, far: &TcpListener, place: &str) -> (TcpStream, TcpStream) {
    let (answer, app) = connect(rig, place).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    (app.into_stream(), in_time(far.accept()).await.unwrap().0)
}

/// The same bytes for the same seed.
fn random(seed: u64, many: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut bytes = vec![0; many];
    random.fill(&mut bytes);
    bytes
}

#[tokio::test]
async fn bytes_pass_both_ways_as_they_are_and_each_side_may_end_first() {
    const MANY: usize = 10 * 1024 * 1024;
    let (rig, far, place) = rig_and_far("").await;
    let (up, down) = (random(1, MANY), random(2, MANY));
    for app_first in [true, false] {
        let (mut app, mut server) = tunnel(&rig, &far, &place).await;
        let (first, second, said, replied) =
            if app_first { (&mut app, &mut server, &up, &down) } else { (&mut server, &mut app, &down, &up) };
        let speaking = async {
            first.write_all(said).await.unwrap();
            first.shutdown().await.unwrap();
            let mut heard = Vec::new();
            first.read_to_end(&mut heard).await.unwrap();
            assert!(heard == *replied, "{} bytes came back", heard.len());
        };
        // Who hears the end of the other may still speak.
        let replying = async {
            let mut heard = Vec::new();
            second.read_to_end(&mut heard).await.unwrap();
            assert!(heard == *said, "{} bytes came", heard.len());
            second.write_all(replied).await.unwrap();
            second.shutdown().await.unwrap();
        };
        in_time(async { tokio::join!(speaking, replying) }).await;
    }
    // A tunnel is an exchange, and it ends with the tunnel.
    let counted = "bearerd_requests_total{route=\"tunnel\",code=\"200\"} 2\n";
    eventually("both are counted", || rig.proxy.said().matches("CONNECT by tunnel ended with 200").count() == 2).await;
    let metrics = rig.proxy.page("/metrics").await;
    assert!(metrics.text().contains(counted), "{}", metrics.text());
    assert!(metrics.text().contains("bearerd_upstream_connections{route=\"tunnel\"} 0\n"), "{}", metrics.text());
}

#[tokio::test]
async fn what_an_app_sends_ahead_is_the_far_ends_once_there_is_one() {
    let (rig, far, place) = rig_and_far("").await;
    for version in ["1.1", "1.0"] {
        let mut app = rig.app().await;
        // A second request, were it read as one.
        let behind = format!("GET /behind HTTP/1.1\r\nHost: {API}\r\n\r\n");
        app.send(format!("CONNECT {place} HTTP/{version}\r\nHost: {place}\r\n\r\n{behind}")).await;
        let answer = app.answer_to_head().await;
        assert_eq!(answer.status, 200);
        for name in ["content-length", "transfer-encoding"] {
            assert_eq!(answer.header(name), None);
        }
        let (mut server, _) = in_time(far.accept()).await.unwrap();
        assert_eq!(read_until(&mut server, "\r\n\r\n").await, behind);
        server.write_all(b"not HTTP").await.unwrap();
        drop(server);
        assert_eq!(app.hears_until_end().await, b"not HTTP");
    }
    assert!(targets(&rig).is_empty());
}

#[tokio::test]
async fn a_tunnel_to_nobody_is_refused_and_the_connection_ends() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let rig = rig_to(&format!("'{gone}', 'nobody.invalid:443', '*.example.test:443'"), "").await;
    for (place, status, reason) in [
        (gone.to_string(), 502, "upstream_refused"),
        ("nobody.invalid:443".to_owned(), 502, "upstream_dns"),
        ("x.example.test:443".to_owned(), 502, "upstream_dns"),
        ("example.test:443".to_owned(), 403, "no_route"),
        ("x.example.test:444".to_owned(), 403, "no_route"),
        ("xexample.test:443".to_owned(), 403, "no_route"),
        (format!("{API}:8443"), 403, "no_route"),
        ("169.254.169.254:80".to_owned(), 403, "no_route"),
    ] {
        let mut app = rig.app().await;
        // What an app sends ahead is nobody's.
        app.send(format!("CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n\r\nGET / HTTP/1.1\r\nHost: {API}\r\n\r\n"))
            .await;
        let answer = app.answer().await;
        assert_eq!((answer.status, answer.reason().as_str()), (status, reason), "{place}");
        assert_eq!(answer.header("connection"), Some("close"), "{place}");
        assert!(app.is_closed().await, "{place}");
    }
    for head in ["CONNECT example.test HTTP/1.1\nHost: example.test", "CONNECT / HTTP/1.1\nHost: localhost"] {
        let answer = rig.app().await.ask(head).await;
        assert_eq!((answer.status, answer.reason().as_str()), (400, "bad_request"), "{head}");
    }
    for framing in ["Content-Length: 0", "Transfer-Encoding: chunked"] {
        let head = format!("CONNECT x.example.test:443 HTTP/1.1\nHost: x.example.test:443\n{framing}");
        assert_eq!(rig.app().await.ask(&head).await.status, 400, "{framing}");
    }
    assert!(targets(&rig).is_empty());
}

#[tokio::test]
async fn a_tunnel_does_not_lead_back() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let own = format!("listen: 127.0.0.1:{port}");
    let rig = rig_to(&format!("'localhost:{port}', '127.0.0.1:{port}', '0.0.0.0:{port}'"), &own).await;
    for place in ["localhost", "127.0.0.1", "0.0.0.0"].map(|host| format!("{host}:{port}")) {
        let (answer, mut app) = connect(&rig, &place).await;
        assert_eq!(answer.status, 508, "{place}");
        app.hears_until_end().await;
    }
}

#[tokio::test]
async fn tunnels_are_finished_at_the_end_and_cut_off_when_it_takes_too_long() {
    let (rig, far, place) = rig_and_far("shutdown: {timeout: 1h}").await;
    let (mut app, mut server) = tunnel(&rig, &far, &place).await;
    let (mut other, _its_server) = tunnel(&rig, &far, &place).await;
    rig.proxy.signal().await;
    rig.proxy.until_said("finishing what is in flight").await;
    server.write_all(b"still").await.unwrap();
    let mut heard = [0; 5];
    in_time(app.read_exact(&mut heard)).await.unwrap();
    drop(server);
    assert_eq!(in_time(app.read(&mut heard)).await.unwrap(), 0);
    drop(app);
    rig.proxy.until_said("CONNECT by tunnel ended").await;
    let Rig { proxy, api, .. } = rig;
    // The second signal is the end of patience.
    assert_eq!(proxy.end().await.cut_off, 1);
    assert!(matches!(in_time(other.read(&mut heard)).await, Ok(0) | Err(_)));
    drop(api);
}

#[tokio::test]
async fn a_side_that_is_gone_ends_the_other() {
    let (rig, far, place) = rig_and_far("").await;
    let (app, mut server) = tunnel(&rig, &far, &place).await;
    app.set_zero_linger().unwrap();
    drop(app);
    let mut heard = Vec::new();
    let _ = in_time(server.read_to_end(&mut heard)).await;
    let (mut app, server) = tunnel(&rig, &far, &place).await;
    server.set_zero_linger().unwrap();
    drop(server);
    let _ = in_time(app.read_to_end(&mut heard)).await;
    assert!(heard.is_empty());
    let ended = || rig.proxy.said().matches("CONNECT by tunnel ended").count() == 2;
    eventually("both have ended", ended).await;
}
