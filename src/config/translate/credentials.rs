//! Credentials: whole sets, each with what the way of proving asks for and nothing else.
//!
//! A key that has no effect is a problem and not a warning: whoever wrote it believes that something is proved by it.

use std::path::PathBuf;
use std::sync::Arc;

use super::super::problem::{Complaint, Path};
use super::super::words::SecretWord;
use super::super::written::{Auth, Credential as Written};
use super::Scribe;
use crate::token::settings::{Credential, Proof, SecretSource};
use crate::token::source::assertion::KeyNames;
use crate::token::source::key::Alg;

/// What stands at the token itself, and the list.
pub(super) struct Sets {
    pub(super) own: Written,
    /// `assertion.file` at the token.
    pub(super) assertion_file: Option<String>,
    pub(super) list: Option<Vec<Written>>,
}

/// Where the keys of one set stand.
struct Spot<'a> {
    path: &'a Path,
    auth: Auth,
    /// The key of the foreign assertion: `assertion.file` at the token, `assertion` in the list.
    assertion: &'a str,
}

impl Auth {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::ClientSecretBasic => "client_secret_basic",
            Self::ClientSecretPost => "client_secret_post",
            Self::ClientSecretJwt => "client_secret_jwt",
            Self::PrivateKeyJwt => "private_key_jwt",
            Self::TlsClientAuth => "tls_client_auth",
            Self::ClientAssertion => "client_assertion",
        }
    }

    /// Whether bearerd makes a JWT for it.
    pub(super) fn makes_jwt(self) -> bool {
        matches!(self, Self::ClientSecretJwt | Self::PrivateKeyJwt)
    }
}

/// At least one, or problems.
pub(super) fn translate(
    scribe: &mut Scribe<'_>,
    path: &Path,
    auth: Auth,
    alg: Option<Alg>,
    sets: Sets,
) -> Option<Vec<Credential>> {
    let Sets { mut own, assertion_file, list } = sets;
    let Some(list) = list else {
        let source = assertion_file.map(PathBuf::from).map(SecretSource::File);
        own.assertion = source.map(|source| SecretWord { source, algs: None });
        if scribe.is_bad(&path.with("credentials")) {
            return None;
        }
        let spot = Spot { path, auth, assertion: "assertion.file" };
        return one(scribe, &spot, alg, own).map(|credential| vec![credential]);
    };
    let around = path.with("credentials");
    let beside = keys(&own).into_iter().find_map(|(key, there)| there.then_some(key));
    if let Some(key) = beside.or(assertion_file.is_some().then_some("assertion.file")) {
        let complaint = Complaint::new(format!("`{key}` is there too, and either says it all"));
        scribe.key_problem(&around, complaint.hint("put it into the list as an entry of its own, or take it away"));
        return None;
    }
    let mut done = Vec::with_capacity(list.len());
    for (index, set) in list.into_iter().enumerate() {
        let spot = Spot { path: &around.with(index), auth, assertion: "assertion" };
        done.push(one(scribe, &spot, alg, set));
    }
    done.into_iter().collect()
}

/// The keys of a set but for the assertion, and whether each is there.
fn keys(set: &Written) -> [(&'static str, bool); 8] {
    [
        ("client_id", set.client_id.is_some()),
        ("client_secret", set.client_secret.is_some()),
        ("private_key", set.private_key.is_some()),
        ("key_id", set.key_id.is_some()),
        ("x5t", set.x5t.is_some()),
        ("x5t_s256", set.x5t_s256.is_some()),
        ("cert_file", set.cert_file.is_some()),
        ("key_file", set.key_file.is_some()),
    ]
}

fn one(scribe: &mut Scribe<'_>, spot: &Spot<'_>, alg: Option<Alg>, set: Written) -> Option<Credential> {
    let needed: &[&str] = match spot.auth {
        Auth::ClientSecretBasic | Auth::ClientSecretPost | Auth::ClientSecretJwt => &["client_secret"],
        Auth::PrivateKeyJwt => &["private_key"],
        Auth::TlsClientAuth => &["cert_file", "key_file"],
        Auth::ClientAssertion => &[spot.assertion],
    };
    let optional: &[&str] = if spot.auth == Auth::PrivateKeyJwt { &["key_id", "x5t", "x5t_s256"] } else { &[] };
    // Where the method itself was wrong, nobody knows what it needs.
    let unknown = scribe.is_bad(spot.path) || scribe.any_bad(spot.path, &["auth"]);
    let written = keys(&set).into_iter().chain([(spot.assertion, set.assertion.is_some())]);
    for (key, there) in written {
        let wanted = key == "client_id" || needed.contains(&key);
        let bad = scribe.is_bad(&spot.at(key));
        if there && !unknown && !wanted && !optional.contains(&key) {
            let complaint = Complaint::new(format!("`{key}` has no effect with `auth: {}`", spot.auth.word()));
            scribe.key_problem(&spot.at(key), complaint.hint(fitting(key)));
        } else if !there && !unknown && wanted && !bad {
            scribe.missing(spot.path, &[key], hint(key, spot.auth));
        }
    }
    if let (Some(alg), Some(fits)) = (alg, set.private_key.as_ref().and_then(|key| key.algs.as_ref()))
        && !fits.contains(&alg)
        && !alg.is_hmac()
    {
        let fits: Vec<&str> = fits.iter().map(|alg| alg.as_str()).collect();
        let complaint = Complaint::new(format!("the key cannot sign with `assertion.alg`, which is {alg}"));
        scribe.key_problem(&spot.path.with("private_key"), complaint.hint(format!("it can: {}", fits.join(", "))));
    }
    let proof = match spot.auth {
        Auth::ClientSecretBasic | Auth::ClientSecretPost | Auth::ClientSecretJwt => {
            Proof::Secret(set.client_secret?.source)
        }
        Auth::PrivateKeyJwt => {
            let names = KeyNames { key_id: set.key_id, x5t: set.x5t, x5t_s256: set.x5t_s256 };
            Proof::Key { key: set.private_key?.source, names }
        }
        Auth::TlsClientAuth => Proof::Certificate { certificate: set.cert_file?.into(), key: set.key_file?.into() },
        Auth::ClientAssertion => Proof::Assertion(set.assertion?.source),
    };
    Some(Credential { client_id: Arc::from(set.client_id?), proof })
}

impl Spot<'_> {
    fn at(&self, key: &str) -> Path {
        key.split('.').fold(self.path.clone(), |path, step| path.with(step))
    }
}

/// What a misplaced key is good for.
fn fitting(key: &str) -> &'static str {
    match key {
        "client_secret" => "remove it, or use `auth: client_secret_basic`, `client_secret_post` or `client_secret_jwt`",
        "cert_file" | "key_file" => {
            "use `auth: tls_client_auth`; a certificate that only the connection needs stands below `tls`"
        }
        "assertion" | "assertion.file" => "remove it, or use `auth: client_assertion`",
        _ => "remove it, or use `auth: private_key_jwt`",
    }
}

/// What to write for a proof that is missing.
fn hint(key: &str, auth: Auth) -> Option<String> {
    let auth = auth.word();
    match key {
        "private_key" => Some(format!("`auth: {auth}` signs with it: `private_key: {{file: key.pem}}`")),
        "cert_file" | "key_file" => Some(format!(
            "`auth: {auth}` shows `cert_file` and `key_file`, which stand beside `client_id`, not below `tls`"
        )),
        "assertion.file" | "assertion" => {
            Some(format!("`auth: {auth}` sends a JWT that somebody else wrote: `assertion: {{file: PATH}}`"))
        }
        _ => None,
    }
}
