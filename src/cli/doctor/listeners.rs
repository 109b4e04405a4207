//! Where apps are to connect: whether the addresses are free, or a running bearerd has them.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::time::Duration;

use super::Round;
use super::report::{Begun, Report, begin};
use crate::cli::health;
use crate::inbound::{ListenAddress, ListenSettings, UnixSocket, answers, owners};
use crate::outbound::AddressGuard;

/// An instance on the same machine answers at once.
const ANSWER: Duration = Duration::from_secs(3);

/// As `run` would guard them; a port that is free to choose is none yet.
pub(super) fn guard(
    listeners: &[ListenSettings],
    admin: &Option<ListenSettings>,
    health: &Option<ListenSettings>,
) -> AddressGuard {
    let of = |listener: &ListenSettings| addresses(&listener.addresses);
    AddressGuard::new(listeners.iter().flat_map(of).collect(), admin.iter().chain(health).flat_map(of).collect())
}

/// What is bound by TCP.
fn addresses(address: &ListenAddress) -> Vec<SocketAddr> {
    let all = match address {
        ListenAddress::At(address) => vec![*address],
        ListenAddress::Localhost(port) => {
            vec![(Ipv4Addr::LOCALHOST, *port).into(), (Ipv6Addr::LOCALHOST, *port).into()]
        }
        ListenAddress::Unix(_) => Vec::new(),
    };
    all.into_iter().filter(|address| address.port() != 0).collect()
}

pub(super) async fn look(
    round: &mut Round<'_>,
    listeners: &[ListenSettings],
    admin: Option<ListenSettings>,
    health: Option<ListenSettings>,
) {
    let pages: Vec<ListenSettings> = admin.iter().chain(&health).cloned().collect();
    let runs = match health::whom_to_ask(admin, health) {
        Ok(page) => {
            let asking = tokio::time::timeout(ANSWER, health::ask(&page, "/livez")).await;
            matches!(asking, Ok(Ok((true, text))) if text == health::ALIVE)
        }
        Err(_) => false,
    };
    for listener in listeners.iter().chain(&pages) {
        let (name, at) = (&listener.name, listener.addresses.to_string());
        // One without a name is called as it is written.
        let begun = begin("listener", if **name == at { at } else { format!("{name} at {at}") });
        match &listener.addresses {
            ListenAddress::Unix(socket) => by_unix(round.report, begun, socket, runs),
            address @ (ListenAddress::At(_) | ListenAddress::Localhost(_)) => {
                by_tcp(round.report, begun, address, runs);
            }
        }
    }
}

const OURS: &str = "a bearerd that runs with this configuration has it";

#[expect(clippy::wildcard_enum_match_arm, reason = "what has no cure of its own has no arm of its own")]
fn by_tcp(report: &mut Report, begun: Begun, address: &ListenAddress, runs: bool) {
    let wrong = addresses(address).into_iter().find_map(|address| match TcpListener::bind(address) {
        Ok(_) => None,
        // A machine without IPv6 is fine with `localhost`.
        Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable && address.ip() == Ipv6Addr::LOCALHOST => None,
        Err(error) => Some((address, error)),
    });
    let Some((address, error)) = wrong else { return report.ok(begun, "free") };
    match error.kind() {
        io::ErrorKind::AddrInUse if runs => report.ok(begun, OURS),
        io::ErrorKind::AddrInUse => {
            let cure = format!(
                "`ss -ltnp 'sport = :{}'` shows whose it is: end that, or choose another address in `listen`, `admin` or \
                 `health`",
                address.port()
            );
            report.fail(begun, format!("another program listens at {address}"), cure);
        }
        io::ErrorKind::PermissionDenied => {
            let cure = "ports below 1024 need a privilege: choose a higher one, or run doctor as bearerd's user";
            report.fail(begun, format!("this user may not listen at {address}"), cure);
        }
        io::ErrorKind::AddrNotAvailable => {
            report.fail(begun, "is no address of this machine", "`ip address` shows those that there are");
        }
        _ => {
            report.fail(begun, format!("cannot be bound: {error}"), "choose another address");
        }
    }
}

fn by_unix(report: &mut Report, begun: Begun, socket: &UnixSocket, runs: bool) {
    if let Err(fault) = owners(socket) {
        let cure = "write its number where names are not known, as in an image without `/etc/passwd`";
        report.fail(begun, fault.to_string(), cure);
        return;
    }
    match socket.path.symlink_metadata() {
        // That the folder takes it, the configuration's check has seen.
        Err(_) => return report.ok(begun, "free"),
        Ok(there) if std::os::unix::fs::FileTypeExt::is_socket(&there.file_type()) => {}
        Ok(_) => {
            let cure = "move it away, or choose another path for the socket";
            report.fail(begun, "something is there that is no socket", cure);
            return;
        }
    }
    match answers(&socket.path) {
        Ok(true) if runs => report.ok(begun, OURS),
        Ok(true) => {
            let cure =
                format!("`ss -lxp src {}` shows whose it is: end that, or choose another path", socket.path.display());
            report.fail(begun, "another program listens there", cure);
        }
        // What a dead process left is replaced.
        Ok(false) => report.ok(begun, "free"),
        Err(fault) => {
            let cure = "run doctor as bearerd's user; if that may not look either, choose another path";
            report.fail(begun, fault.to_string(), cure);
        }
    }
}
