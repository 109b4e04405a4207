//! What cannot change while it runs, and what can: each key of a plan is one or the other.
//!
//! Sockets are bound once, and threads and folders are taken once, so whoever wants others restarts.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::Plan;
use crate::inbound::{ListenAddress, ListenSettings, UnixSocket};
use crate::tls::ServerTls;

/// What is bound, begun or taken at the start, and stays.
#[derive(Debug)]
pub(super) struct Fixed {
    pub(super) listeners: Vec<ListenSettings>,
    pub(super) admin: Option<ListenSettings>,
    pub(super) health: Option<ListenSettings>,
    pub(super) workers: usize,
    pub(super) state_dir: Option<PathBuf>,
}

impl Fixed {
    pub(super) fn of(plan: &Plan) -> Self {
        Self {
            listeners: plan.listeners.clone(),
            admin: plan.admin.clone(),
            health: plan.health.clone(),
            workers: plan.workers,
            state_dir: plan.state_dir.clone(),
        }
    }

    /// Each key of `plan` that says something else; `authority` is the folder of the one in use.
    pub(super) fn differences(&self, plan: &Plan, authority: Option<&Path>) -> Vec<String> {
        // Whoever adds a key decides here whether it may change.
        let Plan {
            listeners,
            admin,
            health,
            workers,
            state_dir,
            ca_dir,
            log: _,
            access_log: _,
            tracing: _,
            shutdown: _,
            tokens: _,
            routes: _,
            callers: _,
            tunnels: _,
            limits: _,
            files: _,
            secret_variables: _,
        } = plan;
        let mut keys = BTreeSet::new();
        let names = |all: &[ListenSettings]| all.iter().map(|one| Arc::clone(&one.name)).collect::<Vec<_>>();
        if names(&self.listeners) == names(listeners) {
            for (one, other) in self.listeners.iter().zip(listeners) {
                keys.extend(
                    listener(one, other).into_iter().map(|key| format!("`{key}` of the listener `{}`", one.name)),
                );
            }
        } else {
            keys.insert("`listen`".to_owned());
        }
        for (key, one, other) in [("admin", &self.admin, admin), ("health", &self.health, health)] {
            match (one, other) {
                (Some(one), Some(other)) => {
                    keys.extend(listener(one, other).into_iter().map(|inner| format!("`{inner}` of `{key}`")));
                }
                (None, None) => {}
                (Some(_), None) | (None, Some(_)) => _ = keys.insert(format!("`{key}`")),
            }
        }
        for (key, differs) in [
            ("workers", self.workers != *workers),
            ("state_dir", self.state_dir != *state_dir),
            ("intercept.ca_dir", authority.is_some_and(|authority| authority != ca_dir)),
        ] {
            if differs {
                keys.insert(format!("`{key}`"));
            }
        }
        let told =
            |key| format!("{key} cannot change while bearerd runs; restart it to have that, or put the old back");
        keys.into_iter().map(told).collect()
    }
}

/// What two listeners of one name differ in.
fn listener(one: &ListenSettings, other: &ListenSettings) -> Vec<&'static str> {
    let ListenSettings { name: _, addresses, allow_remote, tls } = other;
    let mut keys = Vec::new();
    match (&one.addresses, addresses) {
        (ListenAddress::Unix(one), ListenAddress::Unix(other)) => {
            let UnixSocket { path, mode, owner, group } = other;
            for (key, differs) in [
                ("address", one.path != *path),
                ("mode", one.mode != *mode),
                ("owner", one.owner != *owner),
                ("group", one.group != *group),
            ] {
                keys.extend(differs.then_some(key));
            }
        }
        (one, other) => keys.extend((one != other).then_some("address")),
    }
    keys.extend((one.allow_remote != *allow_remote).then_some("allow_remote"));
    match (&one.tls, tls) {
        (Some(one), Some(ServerTls { certificate, key, client_ca })) => {
            for (name, differs) in [
                ("tls.cert_file", one.certificate != *certificate),
                ("tls.key_file", one.key != *key),
                ("tls.client_ca_file", one.client_ca != *client_ca),
            ] {
                keys.extend(differs.then_some(name));
            }
        }
        (one, other) => keys.extend((one != other).then_some("tls")),
    }
    keys
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::config::files::Seen;
    use crate::config::{self, Environment, Files, Sources};

    /// The document, whatever is asked for; TLS files are not looked into here.
    struct Document(String);

    impl Files for Document {
        fn read(&self, path: &Path, _: usize, _: bool) -> io::Result<Seen> {
            let is_it = path == Path::new("/x.yaml");
            let text = if is_it { self.0.as_str() } else { "-----BEGIN CERTIFICATE-----\n" };
            Ok(Seen { bytes: text.as_bytes().to_vec(), world_readable: false })
        }

        fn folder(&self, _: &Path) -> io::Result<bool> {
            Ok(false)
        }
    }

    const ROUTES: &str = "routes: [{name: a, upstream: 'https://a.test', token: none, intercept: true}]";

    /// What stands here stands for the rest of a document, a line for each key.
    const USUAL: [&str; 8] = [
        "listen: [{name: a, address: 'unix:/a'}, {name: b, address: 'localhost:1', tls: {cert_file: c, key_file: k}}]",
        "admin: localhost:2",
        "health: off",
        "workers: 1",
        "state_dir: off",
        "intercept: {ca_dir: /ca}",
        ROUTES,
        "limits: {connections: 7}",
    ];

    /// The usual plan with other lines in the place of those of the same keys.
    fn plan(other: &[&str]) -> Plan {
        let key = |line: &str| line.split(':').next().unwrap_or_default().to_owned();
        let others: Vec<_> = other.iter().map(|line| key(line)).collect();
        let usual = USUAL.iter().filter(|line| !others.contains(&key(line)));
        let document: String = usual.chain(other).map(|line| format!("{line}\n")).collect();
        let flags = [("config".to_owned(), "/x.yaml".to_owned())];
        let sources =
            Sources { flags: &flags, environment: &Environment::new(), files: &Document(document), parallelism: 1 };
        config::load(&sources).unwrap_or_else(|problems| panic!("{problems}")).plan
    }

    #[test]
    fn what_cannot_change_is_named_and_all_else_may() {
        let fixed = Fixed::of(&plan(&[]));
        let told = |other: &str| fixed.differences(&plan(&[other]), Some(Path::new("/ca"))).join("; ");
        for (other, named) in [
            ("listen: [{name: a, address: 'unix:/a'}]", "`listen` cannot"),
            (
                "listen: [{name: a, address: 'unix:/b', mode: 0660, group: app}, {name: b, address: 'localhost:1', tls: \
                 {cert_file: c, key_file: k}}]",
                "`address` of the listener `a` cannot",
            ),
            (
                "listen: [{name: a, address: 'unix:/a', mode: 0660, group: app}, {name: b, address: 'localhost:1', tls: \
                 {cert_file: c, key_file: k}}]",
                "`mode` of the listener `a` cannot",
            ),
            (
                "listen: [{name: a, address: 'unix:/a'}, {name: b, address: 'localhost:3', tls: {cert_file: c, key_file: \
                 k}}]",
                "`address` of the listener `b` cannot",
            ),
            (
                "listen: [{name: a, address: 'unix:/a'}, {name: b, address: 'localhost:1', tls: {cert_file: c, key_file: \
                 l}}]",
                "`tls.key_file` of the listener `b` cannot",
            ),
            (
                "listen: [{name: a, address: 'unix:/a'}, {name: b, address: 'localhost:1'}]",
                "`tls` of the listener `b` cannot",
            ),
            ("admin: localhost:3", "`address` of `admin` cannot"),
            ("admin: off", "`admin` cannot"),
            ("health: localhost:3", "`health` cannot"),
            ("workers: 2", "`workers` cannot"),
            ("state_dir: /state", "`state_dir` cannot"),
            ("intercept: {ca_dir: /other}", "`intercept.ca_dir` cannot"),
        ] {
            assert!(told(other).contains(named), "{other}: {}", told(other));
        }
        for other in [
            "routes: [{name: b, upstream: 'https://b.test', token: none}]",
            "tokens: {a: {token_url: 'https://a.test/', client_id: a, client_secret: {file: s}}}",
            "callers: {hosts: [a.test]}",
            "tunnel: ['a.test:443']",
            "limits: {connections: 8, headers: 20}",
            "log: {level: error, format: json}",
            "shutdown: {delay: 1s}",
            "access_log: /a",
            "tracing: on",
        ] {
            assert_eq!(told(other), "", "{other}");
        }
        let elsewhere = plan(&["intercept: {ca_dir: /other}"]);
        assert!(fixed.differences(&elsewhere, None).is_empty(), "nobody uses one yet");
    }
}
