//! Which addresses a connection may lead to. What is checked is the address that is dialled, after the name was looked
//! up: a name can be made to point anywhere, and at another place a moment later.
//!
//! Routes name hosts, so nobody can ask for an address of their own choosing; what is left are names that lead where no
//! API is: to a cloud's metadata, which hands out credentials, to this very program, or nowhere in particular. Must
//! never know requests.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use crate::wire::fault::Fault;

/// Whose word a name is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Named {
    /// The configuration's, and it says that it is this machine's (`localhost`, or below it).
    ThisMachine,
    /// The configuration's.
    ByUs,
    /// The app's, below a wildcard: it chooses where that leads, too.
    ByApp,
}

/// Knows our own addresses.
#[derive(Clone, Debug, Default)]
pub struct AddressGuard {
    /// Where apps connect: what is sent there comes back here.
    listeners: Vec<SocketAddr>,
    /// Where the admin pages are.
    pages: Vec<SocketAddr>,
}

impl AddressGuard {
    pub fn new(listeners: Vec<SocketAddr>, pages: Vec<SocketAddr>) -> Self {
        Self { listeners, pages }
    }

    /// Those of a name's addresses that may be dialled at `port`. A name of this machine's own may lead to our own pages,
    /// and nowhere else than to loopback, whatever a name server says (RFC 6761, 6.3): without that, what is sent in clear
    /// to a name of ours could leave the machine. One that an app chose may lead anywhere else: what listens on loopback is
    /// for programs of this machine, and the app may be none.
    ///
    /// # Errors
    /// There are some, and none of them may; why the first may not.
    pub(super) fn admissible(&self, found: Vec<SocketAddr>, port: u16, named: Named) -> Result<Vec<SocketAddr>, Fault> {
        let check = |address: &SocketAddr| {
            self.check(SocketAddr::new(address.ip(), port), named == Named::ThisMachine)?;
            match (named, address.ip().to_canonical().is_loopback()) {
                (Named::ThisMachine, false) | (Named::ByApp, true) => Err(Fault::Prohibited),
                (Named::ThisMachine, true) | (Named::ByUs, _) | (Named::ByApp, false) => Ok(()),
            }
        };
        let (mut may, mut why) = (Vec::with_capacity(found.len()), None);
        for address in found {
            match check(&address) {
                Ok(()) => may.push(address),
                Err(fault) => why = why.or(Some(fault)),
            }
        }
        match why {
            Some(why) if may.is_empty() => Err(why),
            Some(_) | None => Ok(may),
        }
    }

    /// `named` if the configuration says this very address, or that it is this machine's.
    ///
    /// # Errors
    /// [`Fault::Loop`], or [`Fault::Prohibited`].
    pub(super) fn check(&self, address: SocketAddr, named: bool) -> Result<(), Fault> {
        let address = SocketAddr::new(address.ip().to_canonical(), address.port());
        if self.listeners.iter().any(|own| is_same(*own, address)) {
            return Err(Fault::Loop);
        }
        if !named && (is_nobodys(address.ip()) || self.pages.iter().any(|own| is_same(*own, address))) {
            return Err(Fault::Prohibited);
        }
        Ok(())
    }
}

/// Whether a connection to `address` ends at the listener `own`. One to no address in particular (0.0.0.0) ends at this
/// machine, and which of its addresses that is the system says.
fn is_same(own: SocketAddr, address: SocketAddr) -> bool {
    own.port() == address.port()
        && (own.ip().to_canonical() == address.ip()
            || own.ip().is_unspecified() && is_this_machine(address.ip())
            || address.ip().is_unspecified() && own.ip().to_canonical().is_loopback())
}

/// Whether an address is one of this machine's: then, and only then, it is also where a packet to it comes from.
/// Nothing is sent for that; connecting a UDP socket looks for a route.
fn is_this_machine(ip: IpAddr) -> bool {
    let any: IpAddr = match ip {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let comes_from = || {
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect((ip, 9))?;
        socket.local_addr()
    };
    ip.is_loopback() || ip.is_unspecified() || comes_from().is_ok_and(|from| from.ip() == ip)
}

/// Whether no upstream's name should lead there.
fn is_nobodys(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_nobodys_v4(ip),
        IpAddr::V6(ip) => {
            ip.is_unspecified()
                || ip.is_multicast()
                || ip.is_unicast_link_local()
                || METADATA_V6.contains(&ip)
                || embedded(ip).is_some_and(is_nobodys_v4)
        }
    }
}

/// RFC 6890 has link-local, which is where most clouds keep their metadata (169.254.169.254).
fn is_nobodys_v4(ip: Ipv4Addr) -> bool {
    ip.octets()[0] == 0 || ip.is_multicast() || ip.is_broadcast() || ip.is_link_local() || METADATA_V4.contains(&ip)
}

/// Metadata that is not link-local: Alibaba Cloud's, Azure's WireServer, Oracle Cloud's.
const METADATA_V4: [Ipv4Addr; 3] =
    [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(168, 63, 129, 16), Ipv4Addr::new(192, 0, 0, 192)];

/// Amazon's by IPv6, and Google's.
const METADATA_V6: [Ipv6Addr; 2] =
    [Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254), Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)];

/// The IPv4 address that a translator makes of an IPv6 one (RFC 6052, 2.1: 64:ff9b::/96; RFC 4291, 2.5.5.1: ::/96).
fn embedded(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    match ip.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0, 0, 0, 0, 0, 0, high, low] if high != 0 => {
            let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
            Some(Ipv4Addr::new(a, b, c, d))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard() -> AddressGuard {
        let at = |text: &str| text.parse().unwrap();
        AddressGuard::new(vec![at("127.0.0.1:4280"), at("0.0.0.0:8443"), at("[::]:8444")], vec![at("127.0.0.1:4281")])
    }

    fn check(address: &str, named: bool) -> Result<(), Fault> {
        guard().check(address.parse().unwrap(), named)
    }

    #[test]
    fn what_no_upstream_is_is_refused_unless_it_is_named() {
        for address in [
            "169.254.169.254:80",
            "169.254.170.2:80",
            "[::ffff:169.254.169.254]:80",
            "[64:ff9b::a9fe:a9fe]:80",
            "[::169.254.169.254]:80",
            "[fe80::1]:80",
            "[fd00:ec2::254]:80",
            "[fd20:ce::254]:80",
            "100.100.100.200:80",
            "168.63.129.16:80",
            "192.0.0.192:80",
            "0.0.0.0:80",
            "0.1.2.3:80",
            "[::]:80",
            "224.0.0.1:80",
            "[ff02::1]:80",
            "255.255.255.255:80",
            "127.0.0.1:4281",
            "[::ffff:127.0.0.1]:4281",
        ] {
            assert_eq!(check(address, false), Err(Fault::Prohibited), "{address}");
            assert_eq!(check(address, true), Ok(()), "{address}");
        }
        for address in [
            "127.0.0.1:443",
            "10.0.0.1:443",
            "192.168.1.1:4280",
            "203.0.113.5:443",
            "[::1]:443",
            "[fd00::1]:443",
            "[2001:db8::1]:443",
            "[64:ff9b::cb00:7105]:443",
            "100.100.100.201:80",
        ] {
            assert_eq!(check(address, false), Ok(()), "{address}");
        }
    }

    #[test]
    fn our_own_listeners_are_a_circle_however_they_are_called() {
        for address in [
            "127.0.0.1:4280",
            "[::ffff:127.0.0.1]:4280",
            "0.0.0.0:4280",
            "127.0.0.1:8443",
            "127.8.8.8:8443",
            "0.0.0.0:8443",
            "127.0.0.1:8444",
            "[::1]:8444",
        ] {
            assert_eq!(check(address, false), Err(Fault::Loop), "{address}");
            assert_eq!(check(address, true), Err(Fault::Loop), "{address}");
        }
        for address in ["127.0.0.2:4280", "[::1]:4280", "203.0.113.5:8443"] {
            assert_eq!(check(address, false), Ok(()), "{address}");
        }
    }
}
