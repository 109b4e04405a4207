//! Whom to let in besides the obvious, and how a named client proves its name: no two of one name, and no proof that
//! two share.

use std::collections::HashMap;
use std::sync::Arc;

use super::super::formats;
use super::super::problem::{Complaint, Path};
use super::super::written;
use super::Scribe;
use crate::inbound::settings::{ListenAddress, ListenSettings};
use crate::rules::settings::{Callers, ClientSettings};

/// What `callers` of a route may say, what is wrong elsewhere with a client or not.
pub(super) fn names(clients: &[written::Client]) -> Vec<String> {
    clients.iter().filter_map(|client| client.name.clone()).collect()
}

pub(super) fn translate(scribe: &mut Scribe<'_>, callers: written::Callers) -> Callers {
    let path = Path::default().with("callers").with("clients");
    let (mut done, mut taken) = (Vec::new(), HashMap::new());
    for (index, client) in callers.clients.into_iter().enumerate() {
        done.extend(one(scribe, &path.with(index), client, &mut taken));
    }
    Callers {
        hosts: callers.hosts.0.iter().filter_map(|host| formats::host(host).ok()).collect(),
        origins: callers.origins.0.iter().filter_map(|origin| formats::origin(origin).ok()).collect(),
        clients: done,
    }
}

/// What no listener can ask for proves nothing.
pub(super) fn warn_of_the_unprovable(scribe: &mut Scribe<'_>, callers: &Callers, listeners: &[ListenSettings]) {
    let on_socket = listeners.iter().any(|listener| matches!(listener.addresses, ListenAddress::Unix(_)));
    let with_certificates = listeners.iter().any(ListenSettings::asks_for_certificate);
    for (index, client) in callers.clients.iter().enumerate() {
        let of = [
            ("uid", client.uid.is_some() && !on_socket, "no listener is a unix socket", "listen on `unix:/PATH`"),
            (
                "cert_san",
                client.cert_san.is_some() && !with_certificates,
                "no listener asks for certificates",
                "give one `tls` with a `client_ca_file`",
            ),
        ];
        for (key, _, what, hint) in of.into_iter().filter(|(_, useless, ..)| *useless) {
            let path = Path::default().with("callers").with("clients").with(index).with(key);
            scribe.key_warning(&path, Complaint::new(format!("{what}, so nobody can prove this")).hint(hint));
        }
    }
}

/// `taken` are the names and proofs of the clients before it, each with its key.
fn one(
    scribe: &mut Scribe<'_>,
    path: &Path,
    client: written::Client,
    taken: &mut HashMap<(&'static str, String), Arc<str>>,
) -> Option<ClientSettings> {
    let written::Client { name, password, uid, cert_san } = client;
    let proofs = ["password", "uid", "cert_san"];
    if password.is_none() && uid.is_none() && cert_san.is_none() && !scribe.any_bad(path, &proofs) {
        let complaint = Complaint::new("there is no way for it to prove its name");
        scribe.problem(path, complaint.hint("give it a `password`, a `uid` or a `cert_san`"));
    }
    let name: Arc<str> = name?.into();
    if password.is_some() && name.contains(':') {
        let complaint = Complaint::new("a name that goes with a password has no `:`, which ends it on the wire");
        scribe.problem(&path.with("name"), complaint);
    }
    let cert_san = cert_san.and_then(|san| formats::cert_san(&san).ok());
    let mine = [
        Some(("name", name.to_string())),
        uid.map(|uid| ("uid", uid.to_string())),
        cert_san.clone().map(|san| ("cert_san", san)),
    ];
    for (key, value) in mine.into_iter().flatten() {
        if let Some(other) = taken.insert((key, value), Arc::clone(&name)) {
            let what = match key {
                "name" => String::from("another client is called that"),
                _ => format!("the client `{other}` has the same"),
            };
            scribe.problem(&path.with(key), Complaint::new(what));
        }
    }
    Some(ClientSettings {
        name,
        uid,
        cert_san: cert_san.map(Into::into),
        password: password.map(|password| password.source),
    })
}
