//! Sockets that are bound and listen already: who started this process keeps them open over its restarts, and hands them to
//! each one in turn (systemd's socket activation, sd_listen_fds(3)).
//!
//! They are shared. Whoever is in the queue of one is served by the next process if not by this, so nothing is done to it
//! here that would outlive its descriptor, but that nobody waits on it: systemd sets that anew for each process. Must
//! never know what is spoken over a socket.

use std::ffi::OsString;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::Path;

use listenfd::ListenFd;

use super::listener::Address;
use super::settings::ListenAddress;

/// The sockets that this process was given and that no listener has yet. Children inherit none of them.
#[derive(Debug, Default)]
pub struct Inherited(Vec<Given>);

#[derive(Debug)]
struct Given {
    /// For people: `3`, or `3 (bearerd.socket)`.
    number: String,
    address: Address,
    socket: Socket,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// A socket that was given is of no use.
#[derive(Debug, thiserror::Error)]
pub enum InheritedFault {
    #[error("the inherited socket {0} is none that TCP or unix streams are accepted on, at an address or a path")]
    Kind(String),
    #[error("the inherited socket {number} is at {address}, where no listener is that needs it")]
    Unclaimed { number: String, address: Address },
    #[error("`LISTEN_FDS` is {0:?}, which is no number of inherited sockets")]
    Count(OsString),
    #[error("the inherited socket {0} cannot be used: {1}")]
    System(String, io::Error),
}

/// Descriptors that are passed on begin behind the standard streams (`SD_LISTEN_FDS_START`).
const FIRST: usize = 3;

/// Nobody hands over more; a number of billions would be counted to, in memory.
type Count = u16;

impl Inherited {
    /// Takes what was given to this very process, and the variables that said so. To be called before there is a second
    /// thread, since others may be reading those.
    ///
    /// # Errors
    /// What was given is not a stream socket that listens.
    pub fn take() -> Result<Self, InheritedFault> {
        // What was given to the one that started this is not for its children, although they may have both.
        if !std::env::var("LISTEN_PID").is_ok_and(|pid| pid == std::process::id().to_string()) {
            return Ok(Self::default());
        }
        if let Some(count) = std::env::var_os("LISTEN_FDS")
            && count.to_str().and_then(|count| count.parse::<Count>().ok()).is_none()
        {
            return Err(InheritedFault::Count(count));
        }
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut given = ListenFd::from_env();
        let mut sockets = Vec::with_capacity(given.len());
        for (index, name) in (0..given.len()).zip(names.split(':').map(Some).chain(std::iter::repeat(None))) {
            let number = match name {
                None | Some("" | "unknown") => (FIRST + index).to_string(),
                Some(name) => format!("{} ({name})", FIRST + index),
            };
            // Each is its own kind or an error, and as an error is left for the next to look at.
            let socket = match (given.take_tcp_listener(index), given.take_unix_listener(index)) {
                (Ok(Some(socket)), _) => Socket::Tcp(socket),
                (_, Ok(Some(socket))) => Socket::Unix(socket),
                _ => return Err(InheritedFault::Kind(number)),
            };
            sockets.push(Given::new(number, socket)?);
        }
        Ok(Self(sockets))
    }

    /// # Errors
    /// There is one that none of these listeners needs: whoever connects there would wait for ever. To be called before
    /// any of them is bound, since it may be what keeps one from that (`[::]:4280` is in the way of `127.0.0.1:4280`).
    pub fn all_needed<'a>(&self, by: impl Iterator<Item = &'a ListenAddress>) -> Result<(), InheritedFault> {
        let mut wanted: Vec<Address> = by.flat_map(places).collect();
        for given in &self.0 {
            let Some(index) = wanted.iter().position(|wanted| given.is_at(wanted)) else {
                let Given { number, address, .. } = given;
                return Err(InheritedFault::Unclaimed { number: number.clone(), address: address.clone() });
            };
            wanted.swap_remove(index);
        }
        Ok(())
    }

    /// The one that listens at this address, if there is one.
    pub(super) fn tcp(&mut self, wanted: SocketAddr) -> Option<TcpListener> {
        match self.claim(&Address::Tcp(wanted))? {
            Socket::Tcp(socket) => Some(socket),
            Socket::Unix(_) => None,
        }
    }

    /// The one whose file this is, if there is one.
    pub(super) fn unix(&mut self, wanted: &Path) -> Option<UnixListener> {
        match self.claim(&Address::Unix(wanted.to_owned()))? {
            Socket::Unix(socket) => Some(socket),
            Socket::Tcp(_) => None,
        }
    }

    fn claim(&mut self, wanted: &Address) -> Option<Socket> {
        let index = self.0.iter().position(|given| given.is_at(wanted))?;
        Some(self.0.swap_remove(index).socket)
    }
}

/// Where such a listener is.
fn places(address: &ListenAddress) -> Vec<Address> {
    match address {
        ListenAddress::Localhost(port) => {
            vec![Address::Tcp((Ipv4Addr::LOCALHOST, *port).into()), Address::Tcp((Ipv6Addr::LOCALHOST, *port).into())]
        }
        ListenAddress::At(address) => vec![Address::Tcp(*address)],
        ListenAddress::Unix(socket) => vec![Address::Unix(socket.path.clone())],
    }
}

impl Given {
    fn is_at(&self, wanted: &Address) -> bool {
        match (&self.address, wanted) {
            // `::ffff:127.0.0.1` is 127.0.0.1 on a socket that takes both families.
            (Address::Tcp(at), Address::Tcp(wanted)) => {
                (at.ip().to_canonical(), at.port()) == (wanted.ip().to_canonical(), wanted.port())
            }
            // By parts, so that `//` and `/./` are no difference.
            (Address::Unix(at), Address::Unix(wanted)) => at.components().eq(wanted.components()),
            (Address::Tcp(_), Address::Unix(_)) | (Address::Unix(_), Address::Tcp(_)) => false,
        }
    }

    fn new(number: String, socket: Socket) -> Result<Self, InheritedFault> {
        let failed = |error| InheritedFault::System(number.clone(), error);
        let (address, listens) = match &socket {
            Socket::Tcp(socket) => {
                socket.set_nonblocking(true).map_err(failed)?;
                (Some(Address::Tcp(socket.local_addr().map_err(failed)?)), listens(socket))
            }
            Socket::Unix(socket) => {
                socket.set_nonblocking(true).map_err(failed)?;
                let address = socket.local_addr().map_err(failed)?;
                // An abstract one has no file that would say who may connect.
                (address.as_pathname().map(|path| Address::Unix(path.to_owned())), listens(socket))
            }
        };
        match address {
            Some(address) if listens.map_err(failed)? => Ok(Self { number, address, socket }),
            Some(_) | None => Err(InheritedFault::Kind(number)),
        }
    }
}

#[cfg(not(target_vendor = "apple"))]
fn listens(socket: impl std::os::fd::AsFd) -> io::Result<bool> {
    Ok(rustix::net::sockopt::socket_acceptconn(socket)?)
}

/// There the system does not tell.
#[cfg(target_vendor = "apple")]
fn listens(_: impl std::os::fd::AsFd) -> io::Result<bool> {
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(address: &str) -> (Given, SocketAddr) {
        let socket = TcpListener::bind(address).unwrap();
        let address = socket.local_addr().unwrap();
        (Given::new("3".into(), Socket::Tcp(socket)).unwrap(), address)
    }

    #[test]
    fn a_socket_is_its_addresss_and_no_others() {
        let (one, at) = tcp("127.0.0.1:0");
        let (other, elsewhere) = tcp("0.0.0.0:0");
        let mut inherited = Inherited(vec![one, other]);
        let port = |port| SocketAddr::from(([127, 0, 0, 1], port));
        // Neither the address alone nor the port alone, and what takes every address is not this one.
        assert!(inherited.tcp(port(1)).is_none() && inherited.tcp(port(elsewhere.port())).is_none());
        assert!(inherited.tcp(([127, 0, 0, 2], at.port()).into()).is_none());
        assert_eq!(inherited.tcp(at).unwrap().local_addr().unwrap(), at);
        assert!(inherited.tcp(at).is_none(), "it is claimed once");
    }

    #[test]
    fn each_is_needed_by_a_listener_of_its_own() {
        let (one, at) = tcp("127.0.0.1:0");
        let (every, all) = tcp("0.0.0.0:0");
        let again = |given: &Given| {
            let Socket::Tcp(socket) = &given.socket else { panic!("{given:?}") };
            Given::new("4".into(), Socket::Tcp(socket.try_clone().unwrap())).unwrap()
        };
        let (twice, localhost) = (again(&one), ListenAddress::Localhost(at.port()));
        let needed = |given: Vec<Given>, by: &[ListenAddress]| Inherited(given).all_needed(by.iter());
        let unneeded = |outcome: Result<(), InheritedFault>| outcome.unwrap_err().to_string();
        assert!(needed(Vec::new(), &[]).is_ok());
        assert!(needed(vec![again(&one)], &[ListenAddress::At(at)]).is_ok());
        assert!(needed(vec![again(&one)], std::slice::from_ref(&localhost)).is_ok());
        let told = unneeded(needed(vec![one, twice], std::slice::from_ref(&localhost)));
        assert_eq!(told, format!("the inherited socket 4 is at {at}, where no listener is that needs it"));
        // It takes what comes to 127.0.0.1 as well, and is everybody's.
        let told = unneeded(needed(vec![every], &[ListenAddress::Localhost(all.port())]));
        assert_eq!(told, format!("the inherited socket 3 is at {all}, where no listener is that needs it"));
    }

    #[test]
    fn a_mapped_address_is_the_plain_one() {
        let Ok(socket) = TcpListener::bind("[::ffff:127.0.0.1]:0") else { return };
        let port = socket.local_addr().unwrap().port();
        let mut inherited = Inherited(vec![Given::new("3".into(), Socket::Tcp(socket)).unwrap()]);
        assert!(inherited.tcp(([127, 0, 0, 1], port).into()).is_some());
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn what_does_not_listen_or_has_no_file_is_of_no_use() {
        use std::os::fd::OwnedFd;
        use std::os::linux::net::SocketAddrExt as _;
        use std::os::unix::net::{SocketAddr as UnixAddress, UnixStream};
        let name = format!("bearerd-{}-{}", std::process::id(), fastrand::u64(..));
        let hidden = UnixListener::bind_addr(&UnixAddress::from_abstract_name(name).unwrap()).unwrap();
        let (connected, _other) = UnixStream::pair().unwrap();
        for socket in [hidden, UnixListener::from(OwnedFd::from(connected))] {
            let fault = Given::new("3 (x)".into(), Socket::Unix(socket)).unwrap_err();
            assert!(matches!(&fault, InheritedFault::Kind(number) if number == "3 (x)"), "{fault}");
        }
    }
}
