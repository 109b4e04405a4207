//! Where apps are to connect: whether the addresses are free, or a running bearerd has them.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::time::Duration;

use serde_json::Value;

use super::Round;
use super::report::{Begun, Report, begin, tame};
use crate::cli::health;
use crate::inbound::{ListenAddress, ListenSettings, UnixSocket, answers, owners};
use crate::observe::ReloadOutcome;
use crate::outbound::AddressGuard;

/// An instance on the same machine answers at once.
const ANSWER: Duration = Duration::from_secs(3);

/// A `/status` of several thousand routes.
const STATUS: usize = 16 * 1024 * 1024;

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
    let running = match health::whom_to_ask(admin, health) {
        Ok(page) => Running::at(page).await,
        Err(_) => None,
    };
    for listener in listeners.iter().chain(&pages) {
        let (name, at) = (&listener.name, listener.addresses.to_string());
        // One without a name is called as it is written.
        let begun = begin("listener", if **name == at { at } else { format!("{name} at {at}") });
        match &listener.addresses {
            ListenAddress::Unix(socket) => by_unix(round.report, begun, socket, running.as_ref()),
            address @ (ListenAddress::At(_) | ListenAddress::Localhost(_)) => {
                by_tcp(round.report, begun, address, running.as_ref());
            }
        }
    }
}

/// A bearerd that runs. Whose configuration it has, nobody can tell from here.
struct Running {
    /// Where it was asked.
    at: ListenAddress,
    /// Why it did not take the configuration that it last read.
    refused: Option<String>,
}

impl Running {
    async fn at(page: ListenSettings) -> Option<Self> {
        let ask = |path, most| tokio::time::timeout(ANSWER, health::ask(&page, path, most));
        let is_there = matches!(ask("/livez", health::MOST).await, Ok(Ok((true, text))) if text == health::ALIVE);
        if !is_there {
            return None;
        }
        // `health` has no such page.
        let refused = match ask("/status", STATUS).await {
            Ok(Ok((true, text))) => refusal(&text),
            Ok(Ok((false, _)) | Err(_)) | Err(_) => None,
        };
        Some(Self { at: page.addresses, refused })
    }

    /// Tells that it has the address, and where it was asked, what it said.
    fn tell(&self, report: &mut Report, begun: Begun, has: impl FnOnce(&ListenAddress) -> bool) {
        const OURS: &str = "a running bearerd has it";
        match self.refused.as_ref().filter(|_| has(&self.at)) {
            None => report.ok(begun, OURS),
            Some(why) => report.warn(
                begun,
                format!("{OURS}, and goes on as before: it refused the configuration that is written: {}", tame(why)),
                "do what it says; `/status` has it whole, as `last_reload`",
            ),
        }
    }
}

/// Of a `/status` that says that its last reload was refused: why.
fn refusal(status: &str) -> Option<String> {
    let status: Value = serde_json::from_str(status).ok()?;
    let last = status.get("configuration")?.get("last_reload")?;
    let is_refused = last.get("outcome")?.as_str()? == ReloadOutcome::Refused.as_str();
    is_refused.then(|| last.get("why")?.as_str().map(str::to_owned))?
}

#[expect(clippy::wildcard_enum_match_arm, reason = "what has no cure of its own has no arm of its own")]
fn by_tcp(report: &mut Report, begun: Begun, whole: &ListenAddress, running: Option<&Running>) {
    let wrong = addresses(whole).into_iter().find_map(|address| match TcpListener::bind(address) {
        Ok(_) => None,
        // A machine without IPv6 is fine with `localhost`.
        Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable && address.ip() == Ipv6Addr::LOCALHOST => None,
        Err(error) => Some((address, error)),
    });
    let Some((address, error)) = wrong else { return report.ok(begun, "free") };
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            if let Some(running) = running {
                return running.tell(report, begun, |at| at == whole);
            }
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

fn by_unix(report: &mut Report, begun: Begun, socket: &UnixSocket, running: Option<&Running>) {
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
        Ok(true) => {
            if let Some(running) = running {
                let has = |at: &ListenAddress| matches!(at, ListenAddress::Unix(at) if at.path == socket.path);
                return running.tell(report, begun, has);
            }
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
