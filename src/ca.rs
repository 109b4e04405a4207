//! The local authority: what an app trusts, so that we can speak TLS in an API's stead.
//!
//! Whoever has its key can be the intercepted hosts to these apps, so the key is ours alone from its first byte, and the
//! certificate itself says (RFC 5280, 4.2.1.10) that it is for those hosts and no others. A name that it may sign for
//! covers the names below it: X.509 has no way to leave them out, and none of them is ever signed here. Must never know
//! what is said inside.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints, PKCS_ECDSA_P256_SHA256, SanType,
    date_time_ymd,
};
use rustix::fs::{FlockOperation, OFlags, flock};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, TrustAnchor};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use zeroize::Zeroizing;

use crate::tls::{Protocols, crypto, system_certificates};
use crate::wire::authority::Host;

/// Apps read what they trust once, at their start: a life that is longer than any of them runs.
const LIFE: Duration = Duration::from_secs(730 * DAY);

/// What must be left at a start: a process that nobody restarts for a year has other troubles.
const ENOUGH: Duration = Duration::from_secs(365 * DAY);

/// A leaf lives for a day, and another takes its place after half of it. Nobody but us holds its key, and it costs a
/// tenth of a millisecond.
const LEAF: Duration = Duration::from_secs(DAY);

/// How far the clock of an app, in another container perhaps, may be behind.
const SLACK: Duration = Duration::from_secs(DAY);

const DAY: u64 = 24 * 60 * 60;

/// The authority's name, with the day that it ends on behind it: for people who look into a trust store, and for us.
const NAME: &str = "bearerd local authority until ";

const KEY: &str = "ca.key";
const CERTIFICATE: &str = "ca.pem";
const BUNDLE: &str = "bundle.pem";
/// Whoever holds it is looking, or making anew.
const LOCK: &str = "ca.lock";

/// An authority for certain hosts, kept in a folder.
pub struct Ca {
    issuer: Issuer<'static, KeyPair>,
    until: SystemTime,
    hosts: BTreeSet<Host>,
    /// One for each of the hosts at the most.
    leaves: Mutex<HashMap<Host, Leaf>>,
    /// As long as it is locked nobody makes the authority anew.
    _key: File,
}

struct Leaf {
    config: Arc<ServerConfig>,
    made: SystemTime,
}

/// How it came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It was there.
    Kept,
    First,
    /// Another was there before, and apps have to read this one. Why that did not do.
    Anew(&'static str),
}

/// Why there is no authority. Every message names the place and what to do.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    #[error(
        "`{}`: {error}; `intercept.ca_dir` names the folder, and this user has to be able to write there",
        path.display()
    )]
    Folder { path: PathBuf, error: io::Error },
    #[error(
        "`{}` may be {what}, and whoever does that can be any intercepted host to the apps: `chmod {cure} {}`{}",
        path.display(), path.display(),
        if *cure == "600" { ", and if it was read, remove it: it is made anew" } else { "" }
    )]
    Open { path: PathBuf, what: &'static str, cure: &'static str },
    #[error("`{}` belongs to another user; give `intercept.ca_dir` a folder of our own", .0.display())]
    NotOurs(PathBuf),
    #[error(
        "`{}` holds an authority that bearerd did not make, and will not replace; give `intercept.ca_dir` a folder of \
         its own", .0.display()
    )]
    Foreign(PathBuf),
    #[error(
        "`{}` has `ca.key` and no `ca.pem`: put that back, or remove the key, too, and the authority is made anew",
        .0.display()
    )]
    Alone(PathBuf),
    #[error(
        "another bearerd uses the authority in `{}`, which does not do here ({why}): give each its own \
         `intercept.ca_dir`, or the same routes that intercept", path.display()
    )]
    InUse { path: PathBuf, why: &'static str },
    #[error("the authority cannot be made: {0}")]
    Certificate(#[from] rcgen::Error),
    #[error("the authority cannot be used: {0}")]
    Tls(#[from] rustls::Error),
}

impl Ca {
    /// The authority for these hosts: the one in `folder` if it fits, else one that is made there.
    ///
    /// # Errors
    /// The folder cannot be used, or is more open than an authority's may be.
    pub fn open(folder: &Path, hosts: BTreeSet<Host>) -> Result<(Self, Origin), CaError> {
        let now = SystemTime::now();
        let kept = Folder::open(folder)?;
        let (key, pair, until, origin) = match kept.look(&hosts, now)? {
            Found::Fits { key, pair, until } => (key, pair, until, Origin::Kept),
            Found::Nothing => kept.make(&hosts, now, Origin::First)?,
            Found::Outdated(why) => kept.make(&hosts, now, Origin::Anew(why))?,
        };
        let shared = flock(&key, FlockOperation::NonBlockingLockShared);
        shared.map_err(|error| kept.failed(KEY, error.into()))?;
        kept.write_bundle()?;
        let params = authority(&hosts, until)?;
        let issuer = Issuer::new(params, pair);
        Ok((Self { issuer, until, hosts, leaves: Mutex::default(), _key: key }, origin))
    }

    /// Whether it is for all of these hosts.
    pub fn is_for(&self, hosts: &BTreeSet<Host>) -> bool {
        hosts.is_subset(&self.hosts)
    }

    /// How TLS is spoken in the stead of `host`; `None` if that is none of the authority's.
    ///
    /// # Errors
    /// The certificate cannot be made.
    pub fn server(&self, host: &Host) -> Result<Option<Arc<ServerConfig>>, CaError> {
        self.server_at(host, SystemTime::now())
    }

    fn server_at(&self, host: &Host, now: SystemTime) -> Result<Option<Arc<ServerConfig>>, CaError> {
        if !self.hosts.contains(host) {
            return Ok(None);
        }
        let mut leaves = self.leaves.lock().unwrap_or_else(PoisonError::into_inner);
        // A clock that was set back makes a leaf one of the future.
        let is_young = |leaf: &&Leaf| now.duration_since(leaf.made).is_ok_and(|age| age < LEAF / 2);
        if let Some(leaf) = leaves.get(host).filter(is_young) {
            return Ok(Some(Arc::clone(&leaf.config)));
        }
        let config = Arc::new(self.leaf(host, now)?);
        leaves.insert(host.clone(), Leaf { config: Arc::clone(&config), made: now });
        Ok(Some(config))
    }

    fn leaf(&self, host: &Host, now: SystemTime) -> Result<ServerConfig, CaError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = called("bearerd, in the stead of what it is asked for");
        params.subject_alt_names = vec![match host {
            Host::Name(name) => SanType::DnsName(name.to_string().try_into()?),
            Host::Ip(address) => SanType::IpAddress(*address),
        }];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        params.not_before = date_time_ymd(1970, 1, 1) + since_1970(now - SLACK);
        params.not_after = date_time_ymd(1970, 1, 1) + since_1970((now + LEAF).min(self.until));
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let key = crypto().key_provider.load_private_key(key)?;
        let key = Arc::new(CertifiedKey::new(vec![certificate.der().clone()], key));
        let mut config = ServerConfig::builder_with_provider(crypto())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(Only { host: host.clone(), key }));
        config.alpn_protocols = Protocols::Either.taken();
        Ok(config)
    }
}

impl fmt::Debug for Ca {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ca({:?})", self.hosts)
    }
}

/// Where an app finds what it is to trust, in the authority's folder.
pub fn certificate(folder: &Path) -> PathBuf {
    folder.join(CERTIFICATE)
}

/// The same with the system's roots behind it, for programs that can be given one file for all.
pub fn bundle(folder: &Path) -> PathBuf {
    folder.join(BUNDLE)
}

/// Shows one host's certificate, and none to who asks for another (SNI; RFC 6066, 3).
#[derive(Debug)]
struct Only {
    host: Host,
    key: Arc<CertifiedKey>,
}

impl ResolvesServerCert for Only {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let is_other = |asked: &str| Host::parse(asked).ok().as_ref() != Some(&self.host);
        (!hello.server_name().is_some_and(is_other)).then(|| Arc::clone(&self.key))
    }
}

/// What is in the folder.
enum Found {
    Nothing,
    Fits { key: File, pair: KeyPair, until: SystemTime },
    Outdated(&'static str),
}

/// The folder, for as long as nobody else may change it.
struct Folder<'a> {
    path: &'a Path,
    _lock: File,
}

impl<'a> Folder<'a> {
    fn open(path: &'a Path) -> Result<Self, CaError> {
        let failed = |error| CaError::Folder { path: path.to_owned(), error };
        if !path.exists() {
            // Apps of other users read what they are to trust; the key beside it is ours alone.
            DirBuilder::new().recursive(true).mode(0o755).create(path).map_err(failed)?;
        }
        let about = fs::metadata(path).map_err(failed)?;
        if !is_ours(about.uid()) {
            return Err(CaError::NotOurs(path.to_owned()));
        }
        if about.mode() & 0o022 != 0 {
            return Err(CaError::Open { path: path.to_owned(), what: "written to by others", cure: "755" });
        }
        let file = path.join(LOCK);
        let failed = |error| CaError::Folder { path: file.clone(), error };
        let lock = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&file);
        let lock = lock.map_err(failed)?;
        // For as long as another one starts up.
        flock(&lock, FlockOperation::LockExclusive).map_err(|error| failed(error.into()))?;
        Ok(Self { path, _lock: lock })
    }

    fn failed(&self, name: &str, error: io::Error) -> CaError {
        CaError::Folder { path: self.path.join(name), error }
    }

    fn look(&self, hosts: &BTreeSet<Host>, now: SystemTime) -> Result<Found, CaError> {
        let path = self.path.join(KEY);
        let opened = OpenOptions::new().read(true).custom_flags(OFlags::NOFOLLOW.bits().cast_signed()).open(&path);
        let mut key = match opened {
            Ok(key) => key,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return match self.path.join(CERTIFICATE).exists() && self.certificate().is_none() {
                    true => Err(CaError::Foreign(self.path.to_owned())),
                    false => Ok(Found::Nothing),
                };
            }
            Err(error) => return Err(self.failed(KEY, error)),
        };
        let about = key.metadata().map_err(|error| self.failed(KEY, error))?;
        if !is_ours(about.uid()) {
            return Err(CaError::NotOurs(path));
        }
        if about.mode() & 0o077 != 0 {
            return Err(CaError::Open { path, what: "read by others", cure: "600" });
        }
        let Some((certificate, until)) = self.certificate() else {
            let path = self.path.to_owned();
            return Err(if self.path.join(CERTIFICATE).exists() {
                CaError::Foreign(path)
            } else {
                CaError::Alone(path)
            });
        };
        let mut pem = Zeroizing::new(String::new());
        key.read_to_string(&mut pem).map_err(|error| self.failed(KEY, error))?;
        let why = match KeyPair::from_pem(&pem) {
            Err(_) => "its key is not one",
            Ok(pair) => {
                let ours = authority(hosts, until)?.self_signed(&pair)?;
                match (anchor(&certificate), anchor(ours.der())) {
                    (Some(kept), Some(ours)) if kept.subject_public_key_info != ours.subject_public_key_info => {
                        "its key is another's"
                    }
                    (Some(kept), Some(ours)) if kept == ours => {
                        if until.duration_since(now).is_ok_and(|left| left >= ENOUGH) {
                            return Ok(Found::Fits { key, pair, until });
                        }
                        "less than a year of it is left"
                    }
                    _ => "it is for other hosts",
                }
            }
        };
        match flock(&key, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Found::Outdated(why)),
            Err(_) => Err(CaError::InUse { path: self.path.to_owned(), why }),
        }
    }

    /// The certificate that is there, if it is one of ours, and when it ends.
    fn certificate(&self) -> Option<(CertificateDer<'static>, SystemTime)> {
        let certificate = CertificateDer::from_pem_file(self.path.join(CERTIFICATE)).ok()?;
        let subject = anchor(&certificate)?.subject;
        let after = subject.windows(NAME.len()).position(|name| name == NAME.as_bytes())? + NAME.len();
        let day = std::str::from_utf8(subject.get(after..)?).ok()?;
        let until = humantime::parse_rfc3339(&format!("{day}T00:00:00Z")).ok()?;
        Some((certificate, until))
    }

    fn make(
        &self,
        hosts: &BTreeSet<Host>,
        now: SystemTime,
        origin: Origin,
    ) -> Result<(File, KeyPair, SystemTime, Origin), CaError> {
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default() + LIFE;
        let until = UNIX_EPOCH + Duration::from_secs(since.as_secs() / DAY * DAY);
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let certificate = authority(hosts, until)?.self_signed(&pair)?;
        let key = Zeroizing::new(pair.serialize_pem());
        // Should it end in between, the next start sees that they are not each other's.
        self.write(CERTIFICATE, certificate.pem().as_bytes(), 0o644)?;
        let key = self.write(KEY, key.as_bytes(), 0o600)?;
        Ok((key, pair, until, origin))
    }

    /// `ca.pem` and the system's roots: all of what the app trusted before, if that is what it trusted.
    fn write_bundle(&self) -> Result<(), CaError> {
        let path = self.path.join(CERTIFICATE);
        let own = fs::read_to_string(&path).map_err(|error| self.failed(CERTIFICATE, error))?;
        let ours = CertificateDer::from_pem_slice(own.as_bytes()).ok();
        let mut all = own.trim_end().to_owned() + "\n";
        for root in system_certificates() {
            // Where the system's roots are this bundle itself, it must not grow.
            if Some(&root) != ours.as_ref() && !is_one_of_ours(&root) {
                all.push_str(&pem(&root));
            }
        }
        if fs::read(self.path.join(BUNDLE)).ok().as_deref() == Some(all.as_bytes()) {
            return Ok(());
        }
        self.write(BUNDLE, all.as_bytes(), 0o644).map(drop)
    }

    /// Puts a whole file in the place of what was there: whoever reads gets the one or the other. It has its mode from
    /// its first byte.
    fn write(&self, name: &str, content: &[u8], mode: u32) -> Result<File, CaError> {
        let draft = self.path.join(format!(".{name}.{}", std::process::id()));
        let write = || {
            // What a process that is gone has left; nobody else is here.
            let _ = fs::remove_file(&draft);
            let mut file =
                OpenOptions::new().read(true).write(true).create_new(true).mode(mode & 0o600).open(&draft)?;
            file.write_all(content)?;
            // Whatever the umask says.
            file.set_permissions(fs::Permissions::from_mode(mode))?;
            file.sync_all()?;
            fs::rename(&draft, self.path.join(name))?;
            Ok(file)
        };
        write().map_err(|error| self.failed(name, error))
    }
}

/// What the authority says of itself. All of it but its validity is in what [`anchor`] sees, and the name tells that.
fn authority(hosts: &BTreeSet<Host>, until: SystemTime) -> Result<CertificateParams, CaError> {
    let day = humantime::format_rfc3339_seconds(until).to_string();
    let mut params = CertificateParams::default();
    params.distinguished_name = called(&format!("{NAME}{}", day.split('T').next().unwrap_or_default()));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.not_before = date_time_ymd(1970, 1, 1) + since_1970(until - LIFE - SLACK);
    params.not_after = date_time_ymd(1970, 1, 1) + since_1970(until);
    let permitted_subtrees: Vec<_> = hosts
        .iter()
        .map(|host| match host {
            Host::Name(name) => GeneralSubtree::DnsName(name.to_string()),
            Host::Ip(IpAddr::V4(address)) => GeneralSubtree::IpAddress(CidrSubnet::V4(address.octets(), [0xff; 4])),
            Host::Ip(IpAddr::V6(address)) => GeneralSubtree::IpAddress(CidrSubnet::V6(address.octets(), [0xff; 16])),
        })
        .collect();
    // Of a kind that has no permitted name every name would be permitted.
    let mut excluded_subtrees = Vec::new();
    if !hosts.iter().any(|host| matches!(host, Host::Name(_))) {
        excluded_subtrees.push(GeneralSubtree::DnsName(String::new()));
    }
    if !hosts.iter().any(|host| matches!(host, Host::Ip(_))) {
        excluded_subtrees.push(GeneralSubtree::IpAddress(CidrSubnet::V4([0; 4], [0; 4])));
        excluded_subtrees.push(GeneralSubtree::IpAddress(CidrSubnet::V6([0; 16], [0; 16])));
    }
    params.name_constraints = Some(NameConstraints { permitted_subtrees, excluded_subtrees });
    Ok(params)
}

fn called(name: &str) -> DistinguishedName {
    let mut called = DistinguishedName::new();
    called.push(DnType::CommonName, name);
    called
}

/// Name, key and constraints of an authority.
fn anchor(certificate: &CertificateDer<'_>) -> Option<TrustAnchor<'static>> {
    webpki::anchor_from_trusted_cert(certificate).ok().map(|anchor| anchor.to_owned())
}

/// Whether it is an authority that a bearerd made, at whatever time.
fn is_one_of_ours(certificate: &CertificateDer<'_>) -> bool {
    let named = |anchor: TrustAnchor<'_>| anchor.subject.windows(NAME.len()).any(|name| name == NAME.as_bytes());
    anchor(certificate).is_some_and(named)
}

/// Root, too: it can do what it likes anyway.
fn is_ours(uid: u32) -> bool {
    uid == 0 || uid == rustix::process::geteuid().as_raw()
}

fn pem(certificate: &CertificateDer<'_>) -> String {
    let encoded = STANDARD.encode(certificate);
    let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
    let mut rest = encoded.as_str();
    while let Some((line, more)) = rest.split_at_checked(64) {
        text.push_str(line);
        text.push('\n');
        rest = more;
    }
    if !rest.is_empty() {
        text.push_str(rest);
        text.push('\n');
    }
    text.push_str("-----END CERTIFICATE-----\n");
    text
}

/// A time as rcgen has it: so long after the day from which [`UNIX_EPOCH`] counts, in whole seconds.
fn since_1970(time: SystemTime) -> Duration {
    Duration::from_secs(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs())
}

#[cfg(test)]
#[path = "ca_tests.rs"]
mod tests;
