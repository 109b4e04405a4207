//! R16b: an upstream and a provider that cannot show that they are who they should be.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use bearerd::demo::certs::{Ca, Identity};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::proof::Proof;
use super::upstream::{Act, upstream};
use super::world::{Bearerd, Lines, World};
use crate::support::{Answer, App, eventually};

/// A certificate chain and its key, in PEM.
#[derive(Clone)]
pub(super) struct Pem {
    pub(super) chain: String,
    pub(super) key: String,
}

impl From<Identity> for Pem {
    fn from(identity: Identity) -> Self {
        Self { chain: identity.cert_pem, key: identity.key_pem }
    }
}

/// What a server shows, which may change at any time.
#[derive(Debug)]
pub(super) struct Shown(Mutex<Arc<CertifiedKey>>);

impl Shown {
    pub(super) fn new(pem: &Pem) -> Arc<Self> {
        Arc::new(Self(Mutex::new(certified(pem))))
    }

    pub(super) fn change(&self, pem: &Pem) {
        *self.0.lock().unwrap() = certified(pem);
    }

    pub(super) fn server(self: &Arc<Self>) -> ServerConfig {
        ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(rustls::ALL_VERSIONS)
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(self) as _)
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.lock().unwrap()))
    }
}

fn certified(pem: &Pem) -> Arc<CertifiedKey> {
    let chain = CertificateDer::pem_slice_iter(pem.chain.as_bytes()).map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_slice(pem.key.as_bytes()).unwrap();
    Arc::new(CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider()).unwrap())
}

const UNKNOWN: &str = "is not signed by a trusted authority";

const NAMES: [&str; 2] = ["localhost", "127.0.0.1"];

/// What is wrong with a certificate; what is shown instead of a good one, that one, and who is trusted.
struct Wrong {
    what: &'static str,
    /// What the log is to say of it.
    says: &'static str,
    bad: Pem,
    good: Pem,
    trusted: String,
}

fn wrong_ones() -> [Wrong; 4] {
    let (ca, stranger) = (Ca::new().unwrap(), Ca::new().unwrap());
    let yesterday = SystemTime::now() - Duration::from_secs(86_400);
    let (whole, root) = with_intermediate();
    let leaf_alone = Pem {
        chain: whole.chain.split_inclusive("-----END CERTIFICATE-----\n").next().unwrap().into(),
        ..whole.clone()
    };
    let of_ca = |what, says, bad: Identity| Wrong {
        what,
        says,
        bad: bad.into(),
        good: ca.identity(&NAMES).unwrap().into(),
        trusted: ca.pem(),
    };
    [
        of_ca("of another name", "is for another name", ca.identity(&["somebody-else.invalid"]).unwrap()),
        of_ca("that has expired", "has expired", ca.identity_until(&NAMES, yesterday).unwrap()),
        of_ca("of an unknown authority", UNKNOWN, stranger.identity(&NAMES).unwrap()),
        Wrong { what: "without its chain", says: UNKNOWN, bad: leaf_alone, good: whole, trusted: root },
    ]
}

/// A certificate that is signed by one which an authority has signed; and the authority's.
fn with_intermediate() -> (Pem, String) {
    let authority = || {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        (params, KeyPair::generate().unwrap())
    };
    let (params, key) = authority();
    let root = CertifiedIssuer::self_signed(params, key).unwrap();
    let (params, key) = authority();
    let intermediate = CertifiedIssuer::signed_by(params, key, &root).unwrap();
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(NAMES.map(str::to_owned)).unwrap().signed_by(&key, &intermediate).unwrap();
    let pem = |pem: String| pem.replace("\r\n", "\n");
    (Pem { chain: pem(leaf.pem()) + &pem(intermediate.pem()), key: key.serialize_pem() }, root.pem())
}

/// What came of a certificate that is no good.
struct Found {
    /// Without a token, and with one and without an upstream: the status, and the reason.
    without: [(u16, String); 2],
    /// What came to the provider, and to the API.
    requests: [u64; 2],
    handshakes: u64,
    /// The status, once the certificate is good.
    behind: u16,
    said: String,
}

async fn ask(world: &World, bearerd: &Bearerd) -> Answer {
    let number = world.books.ask();
    let own = format!("/t0/{number}");
    let answer = App::connect(bearerd.address()).await.get(&own).await;
    world.books.answered(number, answer.status, answer.body == own.as_bytes());
    answer
}

async fn meet(wrong: &Wrong) -> Found {
    let world = World::over_tls(1, Duration::from_secs(3_600), &Ca::new().unwrap()).await;
    world.folder.write("ca.pem", &wrong.trusted);
    let shown = Shown::new(&wrong.bad);
    world.provider.restart_with(shown.server()).await.unwrap();
    let at_api = Shown::new(&wrong.bad);
    let api = upstream(&world.books, Some(Arc::new(at_api.server())), || Act::SERVE).await;
    let lines =
        Lines { token: "tls: {ca_file: ca.pem}\nwait: 0s", route: "tls: {ca_file: ca.pem}", ..Lines::default() };
    world.configure(&format!("https://{}", api.address), lines);
    let bearerd = world.start().await;
    let handshakes = || world.provider.counts().failed_handshakes();
    eventually("the provider was met", || handshakes() > 0).await;
    let no_token = ask(&world, &bearerd).await;
    let (token_requests, handshakes) = (world.provider.count() as u64, handshakes());

    shown.change(&wrong.good);
    bearerd.until_tokens_are("fresh", &world.names).await;
    let no_upstream = ask(&world, &bearerd).await;
    let arrivals = world.books.balance().most_arrivals.into();

    at_api.change(&wrong.good);
    let behind = ask(&world, &bearerd).await.status;
    let said = bearerd.log();
    bearerd.end().await;
    Found {
        without: [no_token, no_upstream].map(|answer| (answer.status, answer.reason())),
        requests: [token_requests, arrivals],
        handshakes,
        behind,
        said,
    }
}

#[tokio::test]
async fn nothing_is_told_to_who_cannot_show_who_they_are() {
    let mut proof =
        Proof::new("R16b", "a provider and an upstream with certificates that are no good, and then with good ones");
    let wrong_ones = wrong_ones();
    let [name, expired, unknown, chain] = &wrong_ones;
    let found = tokio::join!(meet(name), meet(expired), meet(unknown), meet(chain));
    for (Wrong { what, says, .. }, found) in wrong_ones.iter().zip([found.0, found.1, found.2, found.3]) {
        let of = |claim: &str| format!("a certificate {what}: {claim}");
        let [(no_token, why_no_token), (no_upstream, why_no_upstream)] = &found.without;
        proof.at_least(&of("handshakes of the provider's that came to nothing"), found.handshakes, 1);
        proof.is(&of("requests that came to the provider"), found.requests[0], 0);
        proof.is(&of("the app's answer meanwhile"), *no_token, 503);
        proof.is(&of("its reason"), why_no_token.as_str(), "no_token");
        proof.is(&of("requests that came to the API"), found.requests[1], 0);
        proof.is(&of("the app's answer with a token and without the API"), *no_upstream, 502);
        proof.is(&of("its reason, too"), why_no_upstream.as_str(), "upstream_tls");
        for whose in ["the token endpoint cannot be reached", "the upstream"] {
            let line = format!("{whose}: its certificate {says}");
            proof.is(&of(&format!("the log says \"{line}\"")), found.said.contains(&line), true);
        }
        proof.is(&of("the app's answer once it is good"), found.behind, 200);
        proof.asked(3);
        proof.survived(2);
    }
    proof.end();
}
