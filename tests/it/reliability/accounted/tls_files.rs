//! R16: every TLS file that bearerd reads, swapped under load: its own certificate, its clients' authorities, its certificate
//! as a client, and the authorities that it trusts.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bearerd::demo::certs::{Ca, Identity};
use rustls::client::Resumption;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    ClientConfig, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, ServerConfig, SignatureScheme,
};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsConnector;

use super::certificates::Shown;
use super::load::Load;
use super::proof::Proof;
use super::upstream::{Act, upstream};
use super::world::{Bearerd, World};
use crate::support::{App, PATIENCE, eventually, lasting};

fn certificate(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}

fn roots(cas: &[&Ca]) -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    cas.iter().for_each(|ca| roots.add(certificate(&ca.pem())).unwrap());
    Arc::new(roots)
}

/// An app that trusts this authority, shows this certificate, and resumes no session.
fn app(trusted: &Ca, shown: &Identity) -> Arc<ClientConfig> {
    let key = PrivateKeyDer::from_pem_slice(shown.key_pem.as_bytes()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots(&[trusted]))
        .with_client_auth_cert(vec![certificate(&shown.cert_pem)], key)
        .unwrap();
    config.resumption = Resumption::disabled();
    Arc::new(config)
}

/// Takes whom rustls takes, and keeps what the last of them showed.
#[derive(Debug)]
struct Callers {
    rustls: Arc<dyn ClientCertVerifier>,
    last: Mutex<Option<CertificateDer<'static>>>,
}

impl ClientCertVerifier for Callers {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.rustls.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.rustls.verify_client_cert(end_entity, intermediates, now);
        if verified.is_ok() {
            *self.last.lock().unwrap() = Some(end_entity.clone().into_owned());
        }
        verified
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.rustls.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.rustls.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.rustls.supported_verify_schemes()
    }
}

/// What bearerd shows.
async fn leaf(bearerd: &Bearerd, config: Arc<ClientConfig>) -> CertificateDer<'static> {
    let stream = TcpStream::connect(bearerd.address()).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let stream = TlsConnector::from(config).connect(name, stream).await.unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
}

async fn until_leaf(bearerd: &Bearerd, config: &Arc<ClientConfig>, wanted: &Identity) {
    let (deadline, wanted) = (Instant::now() + PATIENCE, certificate(&wanted.cert_pem));
    while leaf(bearerd, Arc::clone(config)).await != wanted {
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} for the new certificate to be served");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until its metrics say that the last reload went well, or not.
async fn until_reload(bearerd: &Bearerd, successful: u8) {
    let deadline = Instant::now() + PATIENCE;
    let line = format!("\nbearerd_config_last_reload_successful {successful}\n");
    while !App::connect(bearerd.at("admin")).await.get("/metrics").await.text().contains(&line) {
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} for {line}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn tls_files_that_are_swapped_under_load_fail_no_handshake() {
    let mut proof =
        Proof::new("R16", "every TLS file swapped under new connections, by renames, some of them with what is no PEM");
    let swaps = lasting(2, 8, 100);
    let world = World::new(1, Duration::from_secs(3_600)).await;
    let names = ["localhost", "127.0.0.1"];
    // bearerd's own authority, as it shows itself to apps and to the API, does not change.
    let own = Ca::new().unwrap();
    let (mut apps_ca, mut api_ca) = (Ca::new().unwrap(), Ca::new().unwrap());
    let identity = |ca: &Ca| ca.identity(&names).unwrap();
    let at_api = Shown::new(&identity(&api_ca).into());
    let callers = Arc::new(Callers {
        rustls: WebPkiClientVerifier::builder_with_provider(roots(&[&own]), Arc::new(aws_lc_rs::default_provider()))
            .build()
            .unwrap(),
        last: Mutex::default(),
    });
    let tls = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(rustls::ALL_VERSIONS)
        .unwrap()
        .with_client_cert_verifier(Arc::clone(&callers) as _)
        .with_cert_resolver(Arc::clone(&at_api) as _);
    let api = upstream(&world.books, Some(Arc::new(tls)), || Act::SERVE).await;

    let put = |name: &str, identity: &Identity| {
        world.folder.replace(&format!("{name}.pem"), &identity.cert_pem);
        world.folder.replace(&format!("{name}.key"), &identity.key_pem);
    };
    put("listener", &identity(&own));
    put("client", &identity(&own));
    world.folder.write("apps.pem", &apps_ca.pem());
    world.folder.write("apis.pem", &api_ca.pem());
    let yaml = format!(
        "listen: [{{name: egress, address: '127.0.0.1:0', tls: {{cert_file: listener.pem, key_file: listener.key, \
         client_ca_file: apps.pem}}}}]\nadmin: 127.0.0.1:0\ntokens:\n  t0: {{token_url: '{}', client_id: t0, \
         client_secret: {{file: secret}}}}\nroutes:\n  - {{name: t0, match: {{path: /t0}}, upstream: 'https://{}', token: t0, \
         tls: {{ca_file: apis.pem, cert_file: client.pem, key_file: client.key}}}}\n",
        world.provider.token_url(),
        api.address
    );
    world.folder.write("bearerd.yaml", &yaml);
    let bearerd = world.start_ready().await;

    let (shows, tls) = watch::channel(app(&own, &identity(&apps_ca)));
    let load = Load {
        connections: lasting(4, 4, 8),
        pace: Duration::from_millis(40),
        per_connection: 1,
        tls: Some(tls),
        ..Load::new(bearerd.address(), &world.names)
    };
    let apps = load.start(&world.books);
    let (mut slowest, mut bad, mut broken, mut kept) = (Duration::ZERO, 0, 0, 0);
    for number in 0..swaps {
        if number % 4 == 1 {
            let before = leaf(&bearerd, shows.borrow().clone()).await;
            world.folder.replace("listener.pem", "-----BEGIN CERTIFICATE-----\nno\n-----END CERTIFICATE-----\n");
            let told = || bearerd.log().matches("\"event\":\"certificate_unusable\"").count();
            eventually("the log says that it is of no use", || told() > bad).await;
            world.folder.replace("apis.pem", "no certificate\n");
            until_reload(&bearerd, 0).await;
            let after = leaf(&bearerd, shows.borrow().clone()).await;
            broken += 1;
            kept += u64::from(after == before);
        }
        // Two authorities at a time, as whoever renews one has it: the old one goes with the next.
        let (next_apps, next_api) = (Ca::new().unwrap(), Ca::new().unwrap());
        let (listener, client) = (identity(&own), identity(&own));
        let begun = Instant::now();
        world.folder.replace("apps.pem", &(apps_ca.pem() + &next_apps.pem()));
        world.folder.replace("apis.pem", &(api_ca.pem() + &next_api.pem()));
        put("listener", &listener);
        put("client", &client);
        until_leaf(&bearerd, &shows.borrow().clone(), &listener).await;
        slowest = slowest.max(begun.elapsed());
        let shown = certificate(&client.cert_pem);
        eventually("the API has seen the new one", || callers.last.lock().unwrap().as_ref() == Some(&shown)).await;
        until_reload(&bearerd, 1).await;
        (apps_ca, api_ca) = (next_apps, next_api);
        at_api.change(&identity(&api_ca).into());
        shows.send_replace(app(&own, &identity(&apps_ca)));
        bad = bearerd.log().matches("\"event\":\"certificate_unusable\"").count();
    }
    apps.stop().await;
    proof.nothing_lost(&world.books.balance());
    proof.is("times that what was good went on beside files that are none", kept, broken);
    proof.survived(swaps + broken);
    proof.within("the longest time until a new certificate was served", slowest, Duration::from_secs(2));
    bearerd.end().await;
    proof.end();
}
