//! `host[:port]` in one canonical form, so that two spellings of one place compare equal and a spelling that parsers
//! disagree about is refused.
//!
//! `http::Uri` is laxer than it looks: it takes user information, `127.1`, `0x7f.1` and `:99999` without a word. This
//! file decides what a host is; it must never know which hosts are allowed.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A host in canonical form.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Host {
    /// Lower case, letters, digits, `-`, `_` and dots, no trailing dot; never something that reads as a number.
    Name(Box<str>),
    Ip(IpAddr),
}

/// A canonical host with the port that was written, if one was.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Authority {
    pub host: Host,
    pub port: Option<u16>,
}

/// Why a text is not an authority that can be trusted to mean one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthorityError {
    #[error("the host is empty")]
    Empty,
    #[error("user information (`@`) has no place in an authority")]
    UserInfo,
    #[error("the port is not a number from 1 to 65535")]
    Port,
    #[error("the host has a character that no host name has")]
    Character,
    #[error("the host is a shortened, octal or hexadecimal IPv4 address")]
    Ipv4Shorthand,
    #[error("the IPv6 address is not one")]
    Ipv6,
    #[error("a label of the host is empty or longer than 63 characters, or the host is longer than 253")]
    Label,
}

impl Authority {
    /// Reads `host`, `host:port`, `[v6]` or `[v6]:port`.
    pub fn parse(text: &str) -> Result<Self, AuthorityError> {
        let parsed = Self::parse_plain(text);
        // No host has one, so it is looked for only where something is wrong.
        parsed.map_err(|error| if text.contains('@') { AuthorityError::UserInfo } else { error })
    }

    fn parse_plain(text: &str) -> Result<Self, AuthorityError> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (inside, after) = rest.split_once(']').ok_or(AuthorityError::Ipv6)?;
                let address: Ipv6Addr = inside.parse().map_err(|_| AuthorityError::Ipv6)?;
                let port = match after {
                    "" => None,
                    _ => Some(after.strip_prefix(':').ok_or(AuthorityError::Port)?),
                };
                (Host::Ip(address.into()), port)
            }
            None => match text.split_once(':') {
                Some((host, port)) => (Host::parse_name(host)?, Some(port)),
                None => (Host::parse_name(text)?, None),
            },
        };
        Ok(Self { host, port: port.map(parse_port).transpose()? })
    }

    /// The port, or the one that stands for its absence.
    pub fn port_or(&self, default: u16) -> u16 {
        self.port.unwrap_or(default)
    }
}

impl Host {
    /// Reads a host without a port; an IPv6 address may stand with or without brackets.
    pub fn parse(text: &str) -> Result<Self, AuthorityError> {
        match text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text).parse::<Ipv6Addr>() {
            Ok(address) => Ok(Self::Ip(address.into())),
            Err(_) => Self::parse_name(text),
        }
    }

    /// 127.0.0.0/8, `::1`, `localhost` or a name below it (RFC 6761, 6.3).
    pub fn is_loopback(&self) -> bool {
        match self {
            Self::Ip(address) => address.to_canonical().is_loopback(),
            Self::Name(name) => &**name == "localhost" || name.ends_with(".localhost"),
        }
    }

    fn parse_name(text: &str) -> Result<Self, AuthorityError> {
        let text = text.strip_suffix('.').unwrap_or(text);
        if text.is_empty() {
            return Err(AuthorityError::Empty);
        }
        // First, since most apps call the proxy by one, and it is soon told from a name.
        if let Ok(address) = text.parse::<Ipv4Addr>() {
            return Ok(Self::Ip(address.into()));
        }
        if !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')) {
            return Err(AuthorityError::Character);
        }
        let mut labels = text.as_bytes().split(|byte| *byte == b'.');
        if text.len() > 253 || labels.any(|label| label.is_empty() || label.len() > 63) {
            return Err(AuthorityError::Label);
        }
        let last = text.rsplit('.').next().unwrap_or_default();
        if last.starts_with(|first: char| first.is_ascii_digit()) {
            // What ends in a number is an IPv4 address to inet_aton and to browsers (WHATWG URL, "ends in a number").
            let hexadecimal = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
            if last.bytes().all(|byte| byte.is_ascii_digit())
                || hexadecimal.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
            {
                return Err(AuthorityError::Ipv4Shorthand);
            }
        }
        Ok(Self::Name(text.to_ascii_lowercase().into()))
    }
}

fn parse_port(text: &str) -> Result<u16, AuthorityError> {
    // `u16::from_str` takes a leading plus.
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(AuthorityError::Port);
    }
    text.parse().ok().filter(|port| *port != 0).ok_or(AuthorityError::Port)
}

impl From<SocketAddr> for Authority {
    fn from(address: SocketAddr) -> Self {
        Self { host: Host::Ip(address.ip()), port: Some(address.port()) }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Ip(IpAddr::V4(address)) => fmt::Display::fmt(address, f),
            Self::Ip(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.host),
            None => fmt::Display::fmt(&self.host, f),
        }
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_place_are_one() {
        for (written, canonical) in [
            ("API.Example.com", "api.example.com"),
            ("api.example.com.", "api.example.com"),
            ("api.example.com:0443", "api.example.com:443"),
            ("127.0.0.1:80", "127.0.0.1:80"),
            ("[0:0:0:0:0:0:0:1]:8080", "[::1]:8080"),
            ("[0:0:0:0:0:0:0:1]", "[::1]"),
            ("my_service", "my_service"),
        ] {
            let authority = Authority::parse(written).unwrap();
            assert_eq!(authority.to_string(), canonical, "{written}");
            // What a log has it as.
            assert_eq!(format!("{authority:?} {:?}", authority.host), format!("{canonical} {}", authority.host));
        }
    }

    #[test]
    fn a_port_that_is_not_written_is_the_usual_one() {
        for (written, port) in [("a", 443), ("a:443", 443), ("a:80", 80), ("[::1]", 443), ("[::1]:8080", 8080)] {
            assert_eq!(Authority::parse(written).unwrap().port_or(443), port, "{written}");
        }
    }

    #[test]
    fn a_name_is_as_long_as_dns_has_it_and_no_longer() {
        // RFC 1035, 2.3.4: 63 octets for a label, and 255 for a name as it is sent, which are 253 as it is written.
        let long = "a".repeat(63);
        let name = [&long[..], &long, &long, &long[..61]].join(".");
        for text in [&long, &name, &format!("{name}.")] {
            assert!(Authority::parse(text).is_ok(), "{text}");
        }
        for text in ["a".repeat(64), "a".repeat(65), format!("b.{}.c", "a".repeat(64)), format!("{name}a"), name + "aa"]
        {
            assert_eq!(Authority::parse(&text), Err(AuthorityError::Label), "{text}");
        }
    }

    #[test]
    fn what_parsers_disagree_about_is_refused() {
        use AuthorityError::{Character, Empty, Ipv4Shorthand, Ipv6, Label, Port, UserInfo};
        for (written, error) in [
            ("", Empty),
            (".", Empty),
            (":80", Empty),
            ("user:password@evil.example", UserInfo),
            ("good.example:80@evil.example", UserInfo),
            ("a:99999", Port),
            ("a:+80", Port),
            ("a:0", Port),
            ("a:", Port),
            ("a:80:80", Port),
            ("[::1]80", Port),
            ("127.1", Ipv4Shorthand),
            ("2130706433", Ipv4Shorthand),
            ("0x7f.1", Ipv4Shorthand),
            ("0x7f000001", Ipv4Shorthand),
            ("127.0.0.01", Ipv4Shorthand),
            ("127.0.0.1.5", Ipv4Shorthand),
            ("a.0x", Ipv4Shorthand),
            ("[::1", Ipv6),
            ("[::ffff:999.0.0.1]", Ipv6),
            ("[fe80::1%25eth0]", Ipv6),
            ("a b", Character),
            ("a/b", Character),
            ("b\u{fc}cher.example", Character),
            ("a%2eb", Character),
            ("a..b", Label),
            (".a", Label),
        ] {
            assert_eq!(Authority::parse(written), Err(error), "{written}");
        }
    }

    #[test]
    fn loopback_is_known_in_every_form() {
        for host in ["localhost", "app.LOCALHOST", "127.0.0.1", "127.9.9.9", "::1", "[::1]", "[::ffff:127.0.0.1]"] {
            assert!(Host::parse(host).unwrap().is_loopback(), "{host}");
        }
        for host in ["localhost.example", "notlocalhost", "128.0.0.1", "::2"] {
            assert!(!Host::parse(host).unwrap().is_loopback(), "{host}");
        }
    }
}
