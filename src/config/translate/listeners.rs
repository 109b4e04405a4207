//! Where bearerd listens: no two at one address, no two of one name, and nothing that other machines reach unasked.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use super::super::formats;
use super::super::problem::{Complaint, Path};
use super::super::written::{Listen, ListenTls};
use super::Scribe;
use crate::inbound::settings::{ListenAddress, ListenSettings, UnixSocket};
use crate::tls::ServerTls;

/// Listeners, admin and health.
pub(super) type Listening = (Vec<ListenSettings>, Option<ListenSettings>, Option<ListenSettings>);

/// What `match.listen` may say, what is wrong elsewhere with a listener or not.
pub(super) fn names(listen: &[Listen]) -> Vec<String> {
    listen.iter().filter_map(|listen| listen.name.clone().or_else(|| listen.address.clone())).collect()
}

pub(super) fn translate(
    scribe: &mut Scribe<'_>,
    listen: Vec<Listen>,
    admin: Option<Listen>,
    health: Option<String>,
    named: bool,
) -> Listening {
    let root = Path::default();
    let mut walk = Walk { taken: Vec::new(), named };
    let mut listeners: Vec<ListenSettings> = Vec::new();
    for (index, written) in listen.into_iter().enumerate() {
        let path = root.with("listen").with(index);
        let Some(address) = &written.address else { continue };
        let name = written.name.clone().unwrap_or_else(|| address.clone());
        if written.name.is_some() && listeners.iter().any(|other| *other.name == *name) {
            let complaint = Complaint::new(format!("another listener is called `{name}`"));
            scribe.problem(&path.with("name"), complaint);
        }
        listeners.extend(walk.one(scribe, &path, &name, written));
    }
    let admin = admin.and_then(|written| {
        let path = root.with("admin");
        if written.name.is_some() {
            let complaint = Complaint::new("no route can name this listener");
            scribe.key_problem(&path.with("name"), complaint.hint("remove the key"));
        }
        walk.one(scribe, &path, "admin", written)
    });
    let health = health.and_then(|address| {
        let addresses = formats::listen_address(&address).ok()?;
        walk.take(scribe, &root.with("health"), &addresses)?;
        // Its pages are for whoever reaches them.
        Some(ListenSettings { name: "health".into(), addresses, allow_remote: false, tls: None })
    });
    (listeners, admin, health)
}

/// What one listener has to know of the others, and of those who come.
struct Walk {
    taken: Vec<(ListenAddress, Path)>,
    /// There are callers that prove who they are.
    named: bool,
}

impl Walk {
    fn one(&mut self, scribe: &mut Scribe<'_>, path: &Path, name: &str, written: Listen) -> Option<ListenSettings> {
        let addresses = formats::listen_address(written.address.as_deref()?).ok()?;
        self.take(scribe, path, &addresses)?;
        // One entry need not be a list.
        let path = &match scribe.written.tree.find(path) {
            None if path.0.len() == 2 => Path(path.0[..1].to_vec()),
            Some(_) | None => path.clone(),
        };
        let Listen { mode, owner, group, allow_remote, tls, .. } = written;
        let addresses = match addresses {
            ListenAddress::Unix(UnixSocket { path: file, .. }) => {
                if allow_remote {
                    let complaint = Complaint::new("no other machine reaches a unix socket");
                    scribe.key_problem(&path.with("allow_remote"), complaint.hint("remove the key"));
                }
                let usual = if group.is_some() { UnixSocket::OF_GROUP } else { UnixSocket::PRIVATE };
                let mode = mode.map_or(usual, |mode| mode.0);
                ListenAddress::Unix(UnixSocket {
                    path: file,
                    mode,
                    owner: owner.map(Into::into),
                    group: group.map(Into::into),
                })
            }
            tcp @ (ListenAddress::Localhost(_) | ListenAddress::At(_)) => {
                for (key, is_there) in
                    [("mode", mode.is_some()), ("owner", owner.is_some()), ("group", group.is_some())]
                {
                    if is_there {
                        let complaint = Complaint::new("only a unix socket has one");
                        let hint = "remove the key, or write `unix:/PATH` as the address";
                        scribe.key_problem(&path.with(key), complaint.hint(hint));
                    }
                }
                self.remote(scribe, path, &tcp, allow_remote, tls.as_ref());
                tcp
            }
        };
        let tls = tls.and_then(|ListenTls { cert_file, key_file, client_ca_file }| {
            let client_ca = client_ca_file.map(PathBuf::from);
            Some(ServerTls { certificate: cert_file?.into(), key: key_file?.into(), client_ca })
        });
        Some(ListenSettings { name: name.into(), addresses, allow_remote, tls })
    }

    /// What other machines can reach says so, speaks TLS, and knows its callers.
    fn remote(
        &self,
        scribe: &mut Scribe<'_>,
        path: &Path,
        address: &ListenAddress,
        allowed: bool,
        tls: Option<&ListenTls>,
    ) {
        let remote = match address {
            ListenAddress::At(at) => Some(at).filter(|at| !at.ip().to_canonical().is_loopback()),
            ListenAddress::Localhost(_) | ListenAddress::Unix(_) => None,
        };
        if let (Some(at), false) = (remote, allowed) {
            if !scribe.any_bad(path, &["allow_remote"]) {
                let complaint = Complaint::new("other machines can reach this address");
                let hint =
                    format!("listen on `localhost:{}`, or write `allow_remote: true` and `tls` beside it", at.port());
                let written = path.with("address");
                let at = if scribe.is_there(&written) { written } else { path.clone() };
                scribe.problem(&at, complaint.hint(hint));
            }
            return;
        }
        if !allowed || scribe.any_bad(path, &["tls"]) {
            return;
        }
        let flag = path.with("allow_remote");
        let Some(tls) = tls else {
            let complaint = Complaint::new("needs `tls` beside it");
            scribe.key_problem(&flag, complaint.hint("write `tls: {cert_file: …, key_file: …, client_ca_file: …}`"));
            return;
        };
        if tls.client_ca_file.is_none() && !self.named && !scribe.any_bad(&path.with("tls"), &["client_ca_file"]) {
            let complaint = Complaint::new("needs `tls.client_ca_file`, or at least one of `callers.clients`");
            scribe.key_problem(&flag, complaint.hint("without one of the two every machine could use the tokens"));
        }
    }

    /// Notes that an address is taken; `None` if it was, and is told with whom.
    fn take(&mut self, scribe: &mut Scribe<'_>, path: &Path, address: &ListenAddress) -> Option<()> {
        if let Some((_, by)) = self.taken.iter().find(|(other, _)| overlap(address, other)) {
            // Of an address that nobody wrote, the problem is the other's.
            let (at, other) = match scribe.is_written(path) {
                true => (path, by.to_string()),
                false => (by, format!("{path}`, whose default it is: `{address}")),
            };
            let complaint = Complaint::new(format!("the same address as `{other}`"));
            let own = match address {
                ListenAddress::Unix(_) => "give each its own path",
                ListenAddress::Localhost(_) | ListenAddress::At(_) => "give each its own port",
            };
            scribe.problem(at, complaint.hint(own));
            return None;
        }
        self.taken.push((address.clone(), path.clone()));
        Some(())
    }
}

/// Whether one socket would be in the way of the other.
fn overlap(one: &ListenAddress, other: &ListenAddress) -> bool {
    if let (ListenAddress::Unix(one), ListenAddress::Unix(other)) = (one, other) {
        // By parts, so that `//` and `/./` are no difference.
        return one.path.components().eq(other.path.components());
    }
    let (one, other) = (sockets(one), sockets(other));
    one.iter().any(|(ip, port)| {
        other.iter().any(|(other_ip, other_port)| {
            let everywhere = match (ip, other_ip) {
                (IpAddr::V4(ip), IpAddr::V4(other)) => ip.is_unspecified() || other.is_unspecified(),
                // `[::]` takes IPv4 too, unless the system says otherwise.
                (ip, other) => [ip, other].iter().any(|ip| **ip == IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
            };
            port == other_port && *port != 0 && (ip == other_ip || everywhere)
        })
    })
}

fn sockets(address: &ListenAddress) -> Vec<(IpAddr, u16)> {
    match address {
        ListenAddress::Localhost(port) => {
            vec![(IpAddr::V4(Ipv4Addr::LOCALHOST), *port), (IpAddr::V6(Ipv6Addr::LOCALHOST), *port)]
        }
        ListenAddress::At(at) => vec![(at.ip(), at.port())],
        ListenAddress::Unix(_) => Vec::new(),
    }
}
