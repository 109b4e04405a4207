//! A forward proxy on the way to somewhere, as the configuration writes it. Must never know what is behind it.

use std::fmt;

use url::Url;

/// An `http://` URL with nothing behind its authority; there may be a password in it.
#[derive(Clone, PartialEq, Eq)]
pub struct ForwardProxy(pub Url);

impl fmt::Debug for ForwardProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ForwardProxy({}:{})", self.0.host_str().unwrap_or_default(), self.0.port().unwrap_or(80))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_printed_without_its_password() {
        for (url, printed) in [
            ("http://app:canary@proxy.example:3128", "ForwardProxy(proxy.example:3128)"),
            ("http://canary@[::1]", "ForwardProxy([::1]:80)"),
        ] {
            assert_eq!(format!("{:?}", ForwardProxy(url.parse().unwrap())), printed);
        }
    }
}
