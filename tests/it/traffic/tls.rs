//! Apps that speak TLS to us: who is let in, with which certificate, and what a renewal of it does.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bearerd::config::Environment;
use bearerd::demo::certs::{Ca, Identity};
use bearerd::tls::{ClientConfigs, TlsSettings};
use rustls::ClientConfig;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{in_time, moment, rig_with, route, targets};
use crate::support::{App, App2, Proxy, Rig, eventually};

/// The name that apps call the listener by.
pub(super) const NAME: &str = "egress.corp.test";

/// A rig whose listener `egress` speaks TLS with `cert.pem`; `more` are further keys of its `tls`.
async fn rig_with_tls(more: &str, top: &str) -> Rig {
    rig_with(|rig| {
        write(rig, "", &rig.ca.identity(&[NAME]).unwrap());
        rig.folder.write("clients.pem", &rig.ca.pem());
        let route = route(rig, "api", "", "");
        format!(
            "listen: {{name: egress, address: '127.0.0.1:0', tls: {{cert_file: cert.pem, key_file: key.pem{more}}}}}\n\
             callers: {{hosts: [{NAME}]}}\n{top}\nroutes:\n{route}"
        )
    })
    .await
}

/// Writes `cert.pem` and `key.pem` of an identity, into a folder.
pub(super) fn write(rig: &Rig, folder: &str, identity: &Identity) {
    rig.folder.write(&format!("{folder}cert.pem"), &identity.cert_pem);
    rig.folder.write(&format!("{folder}key.pem"), &identity.key_pem);
}

/// A client that trusts the rig's authority and shows the certificate of these files.
pub(super) fn client(rig: &Rig, shows: Option<[&Path; 2]>) -> ClientConfig {
    let identity = shows.map(|[certificate, key]| (certificate.to_owned(), key.to_owned()));
    let settings = TlsSettings { ca_file: Some(rig.folder.path("ca.pem")), identity, ..TlsSettings::default() };
    ClientConfigs::fresh(&settings).unwrap()
}

pub(super) type TlsApp = App<TlsStream<TcpStream>>;

/// An app that shakes hands.
async fn connect(rig: &Rig, config: ClientConfig) -> std::io::Result<TlsApp> {
    connect_to(rig.proxy.address, config).await
}

pub(super) async fn connect_to(address: SocketAddr, config: ClientConfig) -> std::io::Result<TlsApp> {
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from(NAME).unwrap();
    Ok(App::over(in_time(TlsConnector::from(Arc::new(config)).connect(name, stream)).await?, &NAME))
}

async fn app(rig: &Rig) -> TlsApp {
    connect(rig, client(rig, None)).await.unwrap()
}

/// The certificate that a new connection is shown.
async fn shown(rig: &Rig) -> CertificateDer<'static> {
    let stream = app(rig).await.into_stream();
    stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
}

/// Whether a connection comes to nothing: TLS 1.3 tells a client of its refusal when it reads first.
async fn is_refused(rig: &Rig, config: ClientConfig) -> bool {
    match connect(rig, config).await {
        Err(_) => true,
        Ok(app) => {
            let head = app.head("GET /refused HTTP/1.1");
            let mut stream = app.into_stream();
            let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, head.as_bytes()).await;
            in_time(stream.read_u8()).await.is_err()
        }
    }
}

/// Waits until so many connections were refused for their handshake: they are counted when their app knows already.
async fn until_failures(rig: &Rig, count: u64) {
    let line = format!("bearerd_refused_total{{reason=\"app_tls\"}} {count}\n");
    let deadline = Instant::now() + crate::support::PATIENCE;
    while !rig.proxy.page("/metrics").await.text().contains(&line) {
        assert!(Instant::now() < deadline, "{line}");
        moment(10).await;
    }
}

#[tokio::test]
async fn an_app_is_served_over_tls() {
    for workers in [1, 2] {
        let rig = rig_with_tls("", &format!("workers: {workers}")).await;
        for versions in [&[&rustls::version::TLS12], &[&rustls::version::TLS13]] {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(rustls::pki_types::pem::PemObject::from_pem_slice(rig.ca.pem().as_bytes()).unwrap()).unwrap();
            let mut config = ClientConfig::builder_with_provider(bearerd::tls::crypto())
                .with_protocol_versions(versions)
                .unwrap()
                .with_root_certificates(roots)
                .with_no_client_auth();
            config.alpn_protocols = vec![b"http/1.1".to_vec()];
            let mut app = connect(&rig, config.clone()).await.unwrap();
            assert_eq!(app.get("/x").await.status, 200);
            app.send(app.head("POST /y HTTP/1.1\nContent-Length: 4")).await;
            app.send("body").await;
            assert_eq!(app.answer().await.status, 200);
            assert_eq!(app.into_stream().get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));

            // Who can speak both speaks HTTP/2, and so does who agreed on nothing and just does.
            for offered in [&[&b"h2"[..], b"http/1.1"][..], &[b"http/1.1", b"h2"], &[b"h2"], &[]] {
                config.alpn_protocols = offered.iter().map(|name| name.to_vec()).collect();
                let stream = connect(&rig, config.clone()).await.unwrap().into_stream();
                let agreed = (!offered.is_empty()).then_some(&b"h2"[..]);
                assert_eq!(stream.get_ref().1.alpn_protocol(), agreed, "{offered:?}");
                assert_eq!(App2::over(stream, &NAME).await.get("/two").await.status, 200, "{offered:?}");
            }
            // An old client has a name for what it speaks.
            config.alpn_protocols = vec![b"http/1.0".to_vec()];
            let mut app = connect(&rig, config.clone()).await.unwrap();
            app.send("GET /old HTTP/1.0\r\nHost: localhost\r\n\r\n").await;
            assert_eq!(app.answer().await.status, 200);
            // What was agreed on is spoken, and nothing else.
            config.alpn_protocols = vec![b"http/1.1".to_vec()];
            let mut app = connect(&rig, config.clone()).await.unwrap();
            app.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
            let heard = app.hears_until_end().await;
            assert!(heard.is_empty() || heard.starts_with(b"HTTP/1.1 400"), "{heard:?}");
            config.alpn_protocols = vec![b"h2".to_vec()];
            let mut app = connect(&rig, config).await.unwrap();
            app.send(app.head("GET /no HTTP/1.1")).await;
            assert!(!app.hears_until_end().await.starts_with(b"HTTP/1.1"));
        }
        let round = ["/x", "/y", "/two", "/two", "/two", "/two", "/old"];
        assert_eq!(targets(&rig), [round, round].concat());
        rig.proxy.until_said("egress listens on").await;
        assert!(rig.proxy.said().contains(", with TLS"));
    }
}

/// The Host rules hold, and our own origin begins with `https`.
#[tokio::test]
async fn its_pages_come_from_https() {
    let rig = rig_with_tls("", "").await;
    let mut app = app(&rig).await;
    for (origin, status) in [
        (format!("https://{NAME}"), 200),
        (format!("http://{NAME}"), 403),
        (format!("https://{NAME}:4280"), 403),
        ("https://evil.test".to_owned(), 403),
    ] {
        assert_eq!(app.ask(&format!("GET /x HTTP/1.1\nOrigin: {origin}")).await.status, status, "{origin}");
    }
    assert_eq!(app.ask("GET /x HTTP/1.1\nHost: evil.test").await.status, 421);
}

#[tokio::test]
async fn what_is_not_tls_is_refused_counted_and_not_repeated() {
    let rig = rig_with_tls("", "").await;
    let mut plain = rig.app().await;
    plain.send(plain.head("GET /canary HTTP/1.1\nX-Canary: canary")).await;
    let heard = plain.hears_until_end().await;
    assert!(!heard.starts_with(b"HTTP/"), "{:?}", String::from_utf8_lossy(&heard));
    rig.proxy.until_said(" was closed: what it sends is not TLS (app_tls").await;
    for _ in 0..20 {
        let mut other = rig.app().await;
        other.send("GET /canary HTTP/1.1\r\n\r\n").await;
        other.hears_until_end().await;
    }
    until_failures(&rig, 21).await;
    let said = rig.proxy.said().clone();
    assert!(!said.contains("canary") && said.matches("egress: a connection from 127.0.0.1:").count() < 15, "{said}");
    assert!(targets(&rig).is_empty());
}

#[tokio::test]
async fn a_client_certificate_is_demanded_and_looked_at() {
    let rig = rig_with_tls(", client_ca_file: ca.pem", "").await;
    let file = |name: &str| rig.folder.path(name);
    let write = |name: &str, ca: &Ca| {
        let identity = ca.identity(&["billing.corp.test"]).unwrap();
        rig.folder.write(&format!("{name}.pem"), &identity.cert_pem);
        rig.folder.write(&format!("{name}-key.pem"), &identity.key_pem);
    };
    write("ours", &rig.ca);
    write("foreign", &Ca::new().unwrap());
    assert!(is_refused(&rig, client(&rig, None)).await);
    rig.proxy.until_said("it shows no client certificate, and `client_ca_file` asks for one").await;
    // One line a second for each reason: the next is another second's.
    moment(1_100).await;
    let foreign = client(&rig, Some([&file("foreign.pem"), &file("foreign-key.pem")]));
    assert!(is_refused(&rig, foreign).await);
    rig.proxy.until_said("its client certificate is of no authority in `client_ca_file`").await;
    until_failures(&rig, 2).await;
    assert!(targets(&rig).is_empty());

    let ours = client(&rig, Some([&file("ours.pem"), &file("ours-key.pem")]));
    assert_eq!(connect(&rig, ours).await.unwrap().get("/x").await.status, 200);
    assert_eq!(targets(&rig), ["/x"]);
}

#[tokio::test]
async fn a_listener_for_other_machines_takes_whom_its_authority_vouches_for() {
    let rig = rig_with(|rig| {
        write(rig, "", &rig.ca.identity(&[NAME]).unwrap());
        let route = route(rig, "api", "", "");
        let tls = "{cert_file: cert.pem, key_file: key.pem, client_ca_file: ca.pem}";
        format!(
            "listen: {{address: '0.0.0.0:0', allow_remote: true, tls: {tls}}}\n\
             admin: {{address: '0.0.0.0:0', allow_remote: true, tls: {tls}}}\n\
             callers: {{hosts: [{NAME}]}}\nroutes:\n{route}"
        )
    })
    .await;
    let pair = [&*rig.folder.path("cert.pem"), &rig.folder.path("key.pem")];
    assert_eq!(connect(&rig, client(&rig, Some(pair))).await.unwrap().get("/x").await.status, 200);
    assert!(is_refused(&rig, client(&rig, None)).await);
    assert_eq!(targets(&rig), ["/x"]);
    // The pages by the same rules.
    let page = |config: ClientConfig| async {
        let stream = TcpStream::connect((std::net::Ipv4Addr::LOCALHOST, rig.proxy.admin.port())).await.unwrap();
        let name = ServerName::try_from(NAME).unwrap();
        let stream = in_time(TlsConnector::from(Arc::new(config)).connect(name, stream)).await.ok()?;
        let mut app = App::over(stream, &NAME);
        app.send(app.head("GET /livez HTTP/1.1")).await;
        Some(app.hears_until_end().await)
    };
    assert!(page(client(&rig, Some(pair))).await.unwrap().starts_with(b"HTTP/1.1 200 "));
    assert!(page(client(&rig, None)).await.is_none_or(|heard| heard.is_empty()));
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_to_new_connections() {
    let rig = rig_with_tls("", "").await;
    let mut old = app(&rig).await;
    assert_eq!(old.get("/x").await.status, 200);
    let first = shown(&rig).await;

    // By renames, one after the other.
    let renewed = rig.ca.identity(&[NAME]).unwrap();
    rig.folder.replace("cert.pem", &renewed.cert_pem);
    rig.folder.replace("key.pem", &renewed.key_pem);
    rig.proxy.until_said("egress: its TLS files changed; new connections get what they hold now").await;
    let second = shown(&rig).await;
    assert_ne!(first, second);
    assert_eq!(old.get("/x").await.status, 200, "what was open stays open");

    // What cannot be used changes nothing, and is told with its listener and its file.
    rig.folder.replace("cert.pem", "no certificate\n");
    let told = format!(
        "egress: its TLS files changed and cannot be used: `{}` holds no certificate; what they held before still serves",
        rig.folder.path("cert.pem").display()
    );
    rig.proxy.until_said(&told).await;
    assert_eq!(shown(&rig).await, second);
    assert_eq!(app(&rig).await.get("/y").await.status, 200);

    // Another's key is no better, and the right one heals it.
    let third = rig.ca.identity(&[NAME]).unwrap();
    let misfits = || rig.proxy.said().matches("do not make a server's certificate").count();
    let before = misfits();
    rig.folder.replace("cert.pem", &third.cert_pem);
    eventually("the misfit is told", || misfits() > before).await;
    assert_eq!(shown(&rig).await, second);
    rig.folder.replace("key.pem", &third.key_pem);
    eventually_shown(&rig, |now| *now != second && *now != first).await;
    assert_eq!(old.get("/z").await.status, 200);
}

async fn eventually_shown(rig: &Rig, holds: impl Fn(&CertificateDer<'static>) -> bool) {
    let deadline = Instant::now() + crate::support::PATIENCE;
    while !holds(&shown(rig).await) {
        assert!(Instant::now() < deadline, "the new certificate is shown");
        moment(20).await;
    }
}

#[tokio::test]
async fn what_is_renewed_while_it_starts_is_not_missed() {
    let mut rig = rig_with_tls("", "").await;
    let first = shown(&rig).await;
    let renewed = rig.ca.identity(&[NAME]).unwrap();
    rig.proxy = Proxy::start_after(&rig.folder, &Environment::new(), || {
        rig.folder.replace("cert.pem", &renewed.cert_pem);
        rig.folder.replace("key.pem", &renewed.key_pem);
    });
    rig.proxy.until_ready().await;
    eventually_shown(&rig, |now| *now != first).await;
}

#[tokio::test]
async fn kubelets_swap_renews_the_certificate() {
    use std::os::unix::fs::symlink;
    let rig = rig_with(|rig| {
        for version in ["..1", "..2"] {
            std::fs::create_dir(rig.folder.path(version)).unwrap();
            write(rig, &format!("{version}/"), &rig.ca.identity(&[NAME]).unwrap());
        }
        symlink("..1", rig.folder.path("..data")).unwrap();
        for name in ["cert.pem", "key.pem"] {
            symlink(format!("..data/{name}"), rig.folder.path(name)).unwrap();
        }
        let route = route(rig, "api", "", "");
        format!(
            "listen: {{name: egress, address: '127.0.0.1:0', tls: {{cert_file: cert.pem, key_file: key.pem}}}}\n\
             callers: {{hosts: [{NAME}]}}\nroutes:\n{route}"
        )
    })
    .await;
    let first = shown(&rig).await;
    symlink("..2", rig.folder.path("..data_tmp")).unwrap();
    std::fs::rename(rig.folder.path("..data_tmp"), rig.folder.path("..data")).unwrap();
    rig.proxy.until_said("egress: its TLS files changed; new connections").await;
    assert_ne!(shown(&rig).await, first);
    assert!(!rig.proxy.said().contains("cannot be used"), "both files at once");
}

/// The authorities are one of the files: who was let in by the old ones is a stranger to the new.
#[tokio::test]
async fn renewed_authorities_decide_about_new_connections() {
    let rig = rig_with_tls(", client_ca_file: clients.pem", "").await;
    let pair = [&*rig.folder.path("cert.pem"), &rig.folder.path("key.pem")];
    let mut old = connect(&rig, client(&rig, Some(pair))).await.unwrap();
    assert_eq!(old.get("/x").await.status, 200);
    rig.folder.replace("clients.pem", &Ca::new().unwrap().pem());
    rig.proxy.until_said("egress: its TLS files changed; new connections").await;
    assert!(is_refused(&rig, client(&rig, Some(pair))).await);
    assert_eq!(old.get("/y").await.status, 200, "what was open stays open");
    assert_eq!(targets(&rig), ["/x", "/y"]);
}

#[tokio::test]
async fn a_handshake_that_has_not_ended_takes_a_place() {
    let rig = rig_with_tls("", "limits: {connections: 1, head: 60s}").await;
    let mut stuck = rig.app().await;
    // The beginning of a record's header.
    stuck.send([0x16, 0x03]).await;
    assert!(is_refused(&rig, client(&rig, None)).await);
    // The answer to one too many is no TLS, so it is not given.
    assert!(rig.app().await.hears_until_end().await.is_empty());
    drop(stuck);
    let deadline = Instant::now() + crate::support::PATIENCE;
    while is_refused(&rig, client(&rig, None)).await {
        assert!(Instant::now() < deadline, "the place is free");
    }
}

#[tokio::test]
async fn a_handshake_that_does_not_end_is_given_up() {
    // As long as for a head, or shorter where nothing at all may take as long.
    for limits in ["{head: 300ms, idle: 60s}", "{head: 60s, idle: 300ms}"] {
        let rig = rig_with_tls("", &format!("limits: {limits}")).await;
        for begins in [&[][..], &[0x16, 0x03]] {
            let begun = Instant::now();
            let mut stuck = rig.app().await;
            stuck.send(begins).await;
            assert!(stuck.is_closed().await);
            assert!(begun.elapsed() >= Duration::from_millis(300));
        }
        rig.proxy.until_said(" was closed: the TLS handshake did not end in time (app_tls").await;
        until_failures(&rig, 2).await;
        assert_eq!(app(&rig).await.get("/x").await.status, 200);
    }
}

#[tokio::test]
async fn after_the_handshake_the_first_byte_has_what_is_left() {
    let rig = rig_with_tls("", "limits: {head: 500ms, idle: 60s}").await;
    let begun = Instant::now();
    let mut silent = app(&rig).await;
    assert!(silent.is_closed().await);
    assert!(begun.elapsed() >= Duration::from_millis(500));
    let mut served = app(&rig).await;
    assert_eq!(served.get("/x").await.status, 200);
    moment(800).await;
    assert_eq!(served.get("/y").await.status, 200, "between two requests there is more time");
}
