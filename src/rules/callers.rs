//! Who sent a request, as far as that can be proved: by the kernel, by a certificate, or by a password.
//!
//! A port on localhost has no idea who calls; a unix socket knows the uid, TLS the certificate, and a client that can
//! do neither has a password. Must never know what a caller may do: that is the routes' business.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use zeroize::Zeroizing;

use super::connect::Intercepted;
use super::settings::ClientSettings;
use crate::observe::event::Asked;
use crate::secret::Secret;
use crate::wire::form::Form;

/// How a request came in, and what its connection proves of who sent it.
#[derive(Clone, Debug, Default)]
pub struct Arrival {
    /// The place of its listener in the configuration.
    pub listener: usize,
    /// What that is called.
    pub door: Arc<str>,
    /// The address at the other end of a TCP connection.
    pub peer: Option<SocketAddr>,
    /// The app spoke TLS to us.
    pub tls: bool,
    /// Other machines reach the listener and it asks for no certificate: whoever has no name is refused.
    pub must_be_named: bool,
    /// The user at the other end of a unix socket.
    pub uid: Option<u32>,
    /// The subject alternative names of the client certificate that was verified: DNS names in lower case, and URIs.
    pub names: Vec<Box<str>>,
    /// It came out of a CONNECT that was decrypted.
    pub intercepted: Option<Intercepted>,
}

impl Arrival {
    /// Whether it came over a unix socket, which no name leads to.
    pub fn is_unix(&self) -> bool {
        self.uid.is_some()
    }

    /// What a line about a request tells of where it came from, besides what it sought.
    pub fn asked(&self, sought: Asked) -> Asked {
        let within = self.intercepted.as_ref().and_then(Intercepted::caller).map(|caller| Arc::clone(&caller.name));
        Asked {
            caller: sought.caller.or(within),
            uid: self.uid,
            peer: self.peer,
            listener: Some(Arc::clone(&self.door)),
            ..sought
        }
    }
}

/// The named clients of the configuration.
#[derive(Debug, Default)]
pub struct Clients(Vec<Client>);

struct Client {
    name: Arc<str>,
    uid: Option<u32>,
    san: Option<Box<str>>,
    /// The digest of name and password as a client sends them; `None` where there is no password, or none that could be
    /// read yet.
    password: ArcSwapOption<[u8; digest::SHA256_OUTPUT_LEN]>,
}

/// Whoever sent a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    pub name: Arc<str>,
    /// It said so in this header, which was for us and has done its work.
    pub by: Option<HeaderName>,
}

impl Clients {
    pub fn new(settings: &[ClientSettings]) -> Self {
        let client = |settings: &ClientSettings| Client {
            name: Arc::clone(&settings.name),
            uid: settings.uid,
            san: settings.cert_san.clone(),
            password: ArcSwapOption::empty(),
        };
        Self(settings.iter().map(client).collect())
    }

    /// From now on the client at this place has the password of one of others, if there is one.
    pub fn take_password(&self, client: usize, others: &Self, other: usize) {
        if let Some((client, other)) = self.0.get(client).zip(others.0.get(other)) {
            client.password.store(other.password.load_full());
        }
    }

    /// From now on the client at this place of the configuration has this password.
    pub fn set_password(&self, client: usize, password: &Secret<String>) {
        if let Some(client) = self.0.get(client) {
            let pair = Zeroizing::new([client.name.as_bytes(), b":", password.expose().as_bytes()].concat());
            client.password.store(Some(Arc::new(digest_of(&pair))));
        }
    }

    /// Whoever sent a request that arrived so, if it is one of ours: by what the connection proves, else by a password.
    /// Inside an interception it is whoever asked for that.
    pub fn name(&self, arrival: &Arrival, headers: &HeaderMap, form: &Form) -> Option<Caller> {
        if self.0.is_empty() {
            return None;
        }
        if let Some(intercepted) = &arrival.intercepted {
            return intercepted.caller().cloned();
        }
        let proved = |client: &&Client| {
            client.uid.is_some() && client.uid == arrival.uid
                || client.san.as_ref().is_some_and(|san| arrival.names.contains(san))
        };
        if let Some(client) = self.0.iter().find(proved) {
            return Some(Caller { name: Arc::clone(&client.name), by: None });
        }
        let by = credential_header(form);
        let mut lines = headers.get_all(&by).iter();
        let (Some(line), None) = (lines.next(), lines.next()) else { return None };
        let digest = digest_of(&basic(line.as_bytes())?);
        // All of them are compared, and digests at that: how long it takes says nothing of names or passwords.
        let mut found = None;
        for client in &self.0 {
            let password = client.password.load();
            let is_its = password.as_deref().is_some_and(|password| verify_slices_are_equal(password, &digest).is_ok());
            if is_its {
                found = Some(&client.name);
            }
        }
        found.map(|name| Caller { name: Arc::clone(name), by: Some(by) })
    }
}

/// How a caller whose connection proves nothing is to name itself (RFC 7617).
pub const CHALLENGE: HeaderValue = HeaderValue::from_static("Basic realm=\"bearerd\", charset=\"UTF-8\"");

/// Where a caller's password stands: a client that has us for its proxy has a header for that (RFC 9110, 11.7).
pub fn credential_header(form: &Form) -> HeaderName {
    match form {
        Form::Origin(_) => header::AUTHORIZATION,
        Form::Absolute { .. } | Form::Tunnel(_) => header::PROXY_AUTHORIZATION,
    }
}

/// `user:password` of a Basic credential (RFC 7617, 2).
fn basic(line: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (scheme, rest) = line.split_at_checked("Basic ".len())?;
    if !scheme.eq_ignore_ascii_case(b"Basic ") {
        return None;
    }
    STANDARD.decode(rest.trim_ascii()).ok().map(Zeroizing::new)
}

fn digest_of(pair: &[u8]) -> [u8; digest::SHA256_OUTPUT_LEN] {
    let mut all = [0; digest::SHA256_OUTPUT_LEN];
    all.copy_from_slice(digest::digest(&digest::SHA256, pair).as_ref());
    all
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({})", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::authority::Authority;

    fn clients() -> Clients {
        let client = |name: &str, uid, san: Option<&str>| ClientSettings {
            name: name.into(),
            uid,
            cert_san: san.map(Into::into),
            password: None,
        };
        let clients = Clients::new(&[
            client("billing", None, None),
            client("batch", Some(1001), None),
            client("edge", Some(1002), Some("edge.corp")),
        ]);
        clients.set_password(0, &Secret::new("p:\u{e9}ss".to_owned()));
        clients
    }

    fn absolute() -> Form {
        Form::Absolute { authority: Authority::parse("api.example").unwrap(), https: false }
    }

    fn asked(form: &Form, lines: &[(HeaderName, String)]) -> Option<Caller> {
        let lines = lines.iter().map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap()));
        clients().name(&Arrival::default(), &lines.collect(), form)
    }

    fn basic_of(pair: &str) -> String {
        format!("Basic {}", STANDARD.encode(pair))
    }

    #[test]
    fn a_password_counts_in_the_header_that_is_for_us() {
        let right = basic_of("billing:p:\u{e9}ss");
        let caller = |by| Some(Caller { name: "billing".into(), by: Some(by) });
        let (ours, proxys) = (header::AUTHORIZATION, header::PROXY_AUTHORIZATION);
        assert_eq!(asked(&Form::Origin(None), &[(ours.clone(), right.clone())]), caller(ours.clone()));
        assert_eq!(asked(&absolute(), &[(proxys.clone(), right.clone())]), caller(proxys.clone()));
        let lower = right.replace("Basic ", "basic  ");
        assert_eq!(asked(&absolute(), &[(proxys.clone(), lower)]), caller(proxys.clone()));
        assert_eq!(asked(&absolute(), &[(ours.clone(), right.clone())]), None);
        assert_eq!(asked(&Form::Origin(None), &[(proxys, right.clone())]), None);
        let twice = [(ours.clone(), right.clone()), (ours, right)];
        assert_eq!(asked(&Form::Origin(None), &twice), None);
    }

    #[test]
    fn whatever_else_names_nobody() {
        for line in [
            basic_of("billing:wrong"),
            basic_of("billing:"),
            basic_of("billing"),
            basic_of("Billing:p:\u{e9}ss"),
            basic_of("batch:"),
            basic_of("batch:p:\u{e9}ss"),
            basic_of(""),
            "Basic".to_owned(),
            "Basic !".to_owned(),
            "Bearer x".to_owned(),
            String::new(),
        ] {
            assert_eq!(asked(&Form::Origin(None), &[(header::AUTHORIZATION, line.clone())]), None, "{line}");
        }
    }

    #[test]
    fn a_connection_proves_a_uid_or_a_certificate() {
        let name = |uid, names: &[&str]| {
            let names = names.iter().map(|name| Box::from(*name)).collect();
            let arrival = Arrival { uid, names, ..Arrival::default() };
            clients().name(&arrival, &HeaderMap::new(), &Form::Origin(None)).map(|caller| caller.name.to_string())
        };
        assert_eq!(name(Some(1001), &[]).as_deref(), Some("batch"));
        assert_eq!(name(Some(1002), &[]).as_deref(), Some("edge"));
        assert_eq!(name(None, &["other", "edge.corp"]).as_deref(), Some("edge"));
        assert_eq!((name(Some(0), &[]), name(None, &["x.edge.corp"]), name(None, &[])), (None, None, None));
    }

    #[test]
    fn a_new_password_takes_the_place_of_the_old() {
        let clients = clients();
        clients.set_password(0, &Secret::new("new".to_owned()));
        let ask = |pair: &str| {
            let line = (header::AUTHORIZATION, HeaderValue::from_str(&basic_of(pair)).unwrap());
            clients.name(&Arrival::default(), &HeaderMap::from_iter([line]), &Form::Origin(None)).is_some()
        };
        assert!(ask("billing:new") && !ask("billing:p:\u{e9}ss"));
    }
}
