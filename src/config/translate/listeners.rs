//! Where bearerd listens: no two at one address, no two of one name.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::super::formats;
use super::super::problem::{Complaint, Path};
use super::super::written::Listen;
use super::Scribe;
use crate::inbound::settings::{ListenAddress, ListenSettings};

/// Listeners, admin and health.
pub(super) type Listening = (Vec<ListenSettings>, Option<ListenAddress>, Option<ListenAddress>);

/// What `match.listen` may say, what is wrong elsewhere with a listener or not.
pub(super) fn names(listen: &[Listen]) -> Vec<String> {
    listen.iter().filter_map(|listen| listen.name.clone().or_else(|| listen.address.clone())).collect()
}

pub(super) fn translate(
    scribe: &mut Scribe<'_>,
    listen: &[Listen],
    admin: Option<String>,
    health: Option<String>,
) -> Option<Listening> {
    let root = Path::default();
    let mut taken = Vec::new();
    let mut listeners: Vec<ListenSettings> = Vec::new();
    for (index, written) in listen.iter().enumerate() {
        let path = root.with("listen").with(index);
        let Some(address) = &written.address else { continue };
        let addresses = take(scribe, &mut taken, &path, formats::loopback_address(address).ok());
        let name = written.name.as_ref().unwrap_or(address);
        if written.name.is_some() && listeners.iter().any(|other| *other.name == **name) {
            let complaint = Complaint::new(format!("another listener is called `{name}`"));
            scribe.problem(&path.with("name"), complaint);
        }
        if let Some(addresses) = addresses {
            listeners.push(ListenSettings { name: name.as_str().into(), addresses });
        }
    }
    let admin = admin.and_then(|address| formats::loopback_address(&address).ok());
    let admin = take(scribe, &mut taken, &root.with("admin"), admin);
    let health = health.and_then(|address| formats::any_address(&address).ok());
    let health = take(scribe, &mut taken, &root.with("health"), health);
    Some((listeners, admin, health))
}

/// Notes that an address is taken, or by whom it is already.
fn take(
    scribe: &mut Scribe<'_>,
    taken: &mut Vec<(ListenAddress, Path)>,
    path: &Path,
    address: Option<ListenAddress>,
) -> Option<ListenAddress> {
    let address = address?;
    if let Some((_, by)) = taken.iter().find(|(other, _)| overlap(&address, other)) {
        // Of an address that nobody wrote, the problem is the other's.
        let (at, other) = match scribe.is_written(path) {
            true => (path, by.to_string()),
            false => (by, format!("{path}`, whose default it is: `{}", text(&address))),
        };
        let complaint = Complaint::new(format!("the same address as `{other}`"));
        scribe.problem(at, complaint.hint("give each its own port"));
        return None;
    }
    taken.push((address.clone(), path.clone()));
    Some(address)
}

fn text(address: &ListenAddress) -> String {
    match address {
        ListenAddress::Localhost(port) => format!("localhost:{port}"),
        ListenAddress::At(at) => at.to_string(),
    }
}

/// Whether one socket would be in the way of the other.
fn overlap(one: &ListenAddress, other: &ListenAddress) -> bool {
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
    }
}
