//! What the authority may sign, who takes it, and when it is made anew.

use std::process::{Command, Stdio};
use std::time::Instant;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::pki_types::{ServerName, UnixTime};
use rustls::{CertificateError, RootCertStore};

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

/// A folder of a test's own, gone with it.
struct Home(PathBuf);

impl Home {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("bearerd-ca-{}-{}", std::process::id(), fastrand::u64(..)));
        Self(path)
    }

    fn open(&self, hosts: &[&str]) -> Result<(Ca, Origin), CaError> {
        let hosts = hosts.iter().map(|host| Host::parse(host).unwrap()).collect();
        Ca::open(&self.0, hosts)
    }

    fn good(&self, hosts: &[&str]) -> (Ca, Origin) {
        unless_in_use(|| self.open(hosts))
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.0.join(name)).unwrap()
    }

    fn mode(&self, name: &str) -> u32 {
        fs::metadata(self.0.join(name)).unwrap().mode() & 0o7777
    }

    fn set_mode(&self, name: &str, mode: u32) {
        fs::set_permissions(self.0.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A child that another test starts holds on to our key's lock until it is a program of its own.
fn unless_in_use<T>(open: impl Fn() -> Result<T, CaError>) -> T {
    let begun = Instant::now();
    loop {
        match open() {
            Ok(opened) => return opened,
            Err(CaError::InUse { .. }) if begun.elapsed() < PATIENCE => std::thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    }
}

/// A leaf for whatever name, signed by the authority: what it would be worth to a thief.
fn signed(ca: &Ca, name: &str, now: SystemTime) -> CertificateDer<'static> {
    let mut params = CertificateParams::new([name.to_owned()]).unwrap();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    params.not_before = date_time_ymd(1970, 1, 1) + since_1970(now - SLACK);
    params.not_after = date_time_ymd(1970, 1, 1) + since_1970(now + LEAF);
    let key = KeyPair::generate().unwrap();
    params.signed_by(&key, &ca.issuer).unwrap().der().clone()
}

/// What rustls says to a leaf.
fn verify(home: &Home, leaf: &CertificateDer<'_>, name: &str) -> Result<(), rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(home.read(CERTIFICATE).as_bytes()).unwrap()).unwrap();
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), crypto()).build().unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    verifier.verify_server_cert(leaf, &[], &name, &[], UnixTime::now()).map(drop)
}

/// What openssl says, where there is one.
fn openssl(home: &Home, leaf: &CertificateDer<'_>) -> Option<bool> {
    let file = home.0.join("leaf.pem");
    fs::write(&file, pem(leaf)).unwrap();
    let mut openssl = Command::new("openssl");
    openssl.args(["verify", "-x509_strict", "-purpose", "sslserver", "-CAfile"]);
    openssl.arg(home.0.join(CERTIFICATE)).arg(file).stdout(Stdio::null()).stderr(Stdio::null());
    openssl.status().ok().map(|status| status.success())
}

fn leaf(ca: &Ca, host: &str) -> CertificateDer<'static> {
    let host = Host::parse(host).unwrap();
    ca.server(&host).unwrap().expect("a host of its own");
    // Made as it is for a server: its configuration does not show it.
    signed(ca, host.to_string().trim_matches(['[', ']']), SystemTime::now())
}

#[test]
fn it_is_good_for_its_hosts_and_for_nobody_else() {
    let cases: [(&[&str], &[&str], &[&str]); 3] = [
        (
            &["api.example.com", "other.example.org"],
            &["api.example.com", "other.example.org"],
            &["example.com", "evil.com", "xapi.example.com", "192.0.2.1", "2001:db8::1"],
        ),
        (&["192.0.2.1", "2001:db8::1"], &["192.0.2.1", "2001:db8::1"], &["192.0.2.2", "2001:db8::2", "evil.com"]),
        (
            &["api.example.com", "192.0.2.1"],
            &["api.example.com", "192.0.2.1"],
            &["192.0.2.2", "2001:db8::1", "evil.com"],
        ),
    ];
    for (hosts, good, bad) in cases {
        let home = Home::new();
        let (ca, _) = home.good(hosts);
        for name in good {
            let leaf = leaf(&ca, name);
            assert_eq!(verify(&home, &leaf, name), Ok(()), "{name}");
            assert_ne!(openssl(&home, &leaf), Some(false), "{name}");
        }
        for name in bad {
            assert!(ca.server(&Host::parse(name).unwrap()).unwrap().is_none(), "{name}");
            let stolen = signed(&ca, name, SystemTime::now());
            let why = verify(&home, &stolen, name).unwrap_err();
            let rustls::Error::InvalidCertificate(CertificateError::Other(why)) = why else { panic!("{name}: {why}") };
            assert!(why.to_string().contains("NameConstraintViolation"), "{name}: {why}");
            assert_ne!(openssl(&home, &stolen), Some(true), "{name}");
        }
    }
}

#[test]
fn a_leaf_is_made_once_and_again_before_it_ends() {
    let home = Home::new();
    let (ca, _) = home.good(&["api.example.com"]);
    let host = Host::parse("api.example.com").unwrap();
    let now = SystemTime::now();
    let at = |after: Duration| ca.server_at(&host, now + after).unwrap().unwrap();
    let first = at(Duration::ZERO);
    assert!(Arc::ptr_eq(&first, &at(LEAF / 2 - Duration::from_secs(1))));
    let second = at(LEAF / 2);
    assert!(!Arc::ptr_eq(&first, &second));
    // The clock was set back.
    assert!(!Arc::ptr_eq(&second, &at(Duration::ZERO)));
    assert_eq!(ca.leaves.lock().unwrap().len(), 1);
}

#[test]
fn it_is_kept_while_it_fits_and_made_anew_when_it_does_not() {
    let home = Home::new();
    let open = |hosts: &[&str]| home.good(hosts).1;
    assert_eq!(open(&["a.example", "b.example"]), Origin::First);
    let first = home.read(CERTIFICATE);
    // In whatever order.
    assert_eq!(open(&["b.example", "a.example"]), Origin::Kept);
    assert_eq!(home.read(CERTIFICATE), first);
    for hosts in [&["a.example"][..], &["a.example", "c.example"], &["a.example", "192.0.2.1"]] {
        assert_eq!(open(hosts), Origin::Anew("it is for other hosts"));
        assert_eq!(open(hosts), Origin::Kept);
    }
    assert_ne!(home.read(CERTIFICATE), first);
    // One file of two: the other is of an end in between.
    let other = Home::new();
    drop(other.good(&["a.example", "192.0.2.1"]));
    fs::copy(other.0.join(CERTIFICATE), home.0.join(CERTIFICATE)).unwrap();
    assert_eq!(open(&["a.example", "192.0.2.1"]), Origin::Anew("its key is another's"));
    fs::remove_file(home.0.join(KEY)).unwrap();
    assert_eq!(open(&["a.example", "192.0.2.1"]), Origin::First);
}

#[test]
fn it_is_made_anew_long_before_it_ends() {
    let home = Home::new();
    drop(home.good(&["a.example"]));
    let hosts = BTreeSet::from([Host::parse("a.example").unwrap()]);
    let found = |after| unless_in_use(|| Folder::open(&home.0)?.look(&hosts, SystemTime::now() + after));
    assert!(matches!(found(LIFE - ENOUGH - Duration::from_secs(2 * DAY)), Found::Fits { .. }));
    assert!(matches!(found(LIFE - ENOUGH), Found::Outdated("less than a year of it is left")));
    assert!(matches!(found(LIFE * 2), Found::Outdated(_)));
}

#[test]
fn its_key_is_ours_alone_or_it_is_not_used() {
    let home = Home::new();
    drop(home.good(&["a.example"]));
    assert_eq!((home.mode(KEY), home.mode(CERTIFICATE), home.mode(BUNDLE)), (0o600, 0o644, 0o644));
    for mode in [0o640, 0o604, 0o660] {
        home.set_mode(KEY, mode);
        let error = home.open(&["a.example"]).unwrap_err().to_string();
        assert!(error.contains("may be read by others") && error.contains("chmod 600"), "{error}");
        assert!(error.contains(&home.0.join(KEY).display().to_string()), "{error}");
    }
    home.set_mode(KEY, 0o600);
    for mode in [0o775, 0o757] {
        home.set_mode("", mode);
        let error = home.open(&["a.example"]).unwrap_err().to_string();
        assert!(error.contains("may be written to by others") && error.contains("chmod 755"), "{error}");
    }
    home.set_mode("", 0o755);
    assert_eq!(home.good(&["a.example"]).1, Origin::Kept);
    // What it links to is not looked at.
    fs::rename(home.0.join(KEY), home.0.join("elsewhere")).unwrap();
    std::os::unix::fs::symlink("elsewhere", home.0.join(KEY)).unwrap();
    assert!(matches!(home.open(&["a.example"]), Err(CaError::Folder { .. })));
}

#[test]
fn two_that_share_a_folder_do_not_break_each_other() {
    let home = Home::new();
    // At once.
    let origins: Vec<Origin> = std::thread::scope(|scope| {
        let starts: Vec<_> = (0..8).map(|_| scope.spawn(|| home.good(&["a.example"]))).collect();
        let running: Vec<(Ca, Origin)> = starts.into_iter().map(|start| start.join().unwrap()).collect();
        running.into_iter().map(|(_, origin)| origin).collect()
    });
    assert_eq!(origins.iter().filter(|origin| **origin == Origin::First).count(), 1, "{origins:?}");
    let (running, _) = home.good(&["a.example"]);
    let before = home.read(CERTIFICATE);
    let error = home.open(&["b.example"]).unwrap_err().to_string();
    assert!(error.contains("another bearerd uses") && error.contains("intercept.ca_dir"), "{error}");
    assert_eq!(home.read(CERTIFICATE), before);
    drop(running);
    assert_eq!(home.good(&["b.example"]).1, Origin::Anew("it is for other hosts"));
}

#[test]
fn what_bearerd_did_not_make_it_does_not_replace() {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(["corp".to_owned()]).unwrap().self_signed(&key).unwrap().pem();
    for both in [true, false] {
        let home = Home::new();
        DirBuilder::new().mode(0o755).create(&home.0).unwrap();
        fs::write(home.0.join(CERTIFICATE), &certificate).unwrap();
        if both {
            fs::write(home.0.join(KEY), key.serialize_pem()).unwrap();
            home.set_mode(KEY, 0o600);
        }
        assert!(matches!(home.open(&["a.example"]), Err(CaError::Foreign(_))), "{both}");
        assert_eq!(home.read(CERTIFICATE), certificate);
    }
}

#[test]
fn a_key_whose_certificate_is_gone_is_told_as_that() {
    let home = Home::new();
    drop(home.good(&["a.example"]));
    fs::remove_file(home.0.join(CERTIFICATE)).unwrap();
    assert!(matches!(home.open(&["a.example"]), Err(CaError::Alone(_))));
    fs::remove_file(home.0.join(KEY)).unwrap();
    drop(home.good(&["a.example"]));
}

#[test]
fn the_bundle_is_the_authority_and_then_what_the_system_trusts() {
    let home = Home::new();
    drop(home.good(&["a.example"]));
    let bundle = home.read(BUNDLE);
    assert!(bundle.starts_with(&home.read(CERTIFICATE)));
    let all = CertificateDer::pem_slice_iter(bundle.as_bytes()).collect::<Result<Vec<_>, _>>().unwrap();
    assert_eq!(all.len(), 1 + system_certificates().len());
}

#[test]
fn a_folder_that_cannot_be_made_is_named_with_what_to_do() {
    let home = Home::new();
    fs::write(&home.0, "a file").unwrap();
    let error = Ca::open(&home.0.join("ca"), BTreeSet::new()).unwrap_err().to_string();
    fs::remove_file(&home.0).unwrap();
    assert!(error.contains(&home.0.display().to_string()) && error.contains("intercept.ca_dir"), "{error}");
}
