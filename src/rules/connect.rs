//! What a CONNECT may lead to: an upstream that is intercepted, a place that `tunnel` names, or nowhere.
//!
//! The only place that makes a [`Tunnelled`] or an [`Intercepted`]. Must never know sockets, nor what is said inside.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use http::HeaderMap;

use super::admit::{Refusal, Route, Routes};
use super::callers::{Arrival, Caller};
use crate::observe::RouteMetrics;
use crate::wire::authority::{Authority, Host};
use crate::wire::form::{Form, Target};

/// One entry of `tunnel`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunnelTo {
    pub host: TunnelHost,
    pub port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TunnelHost {
    /// This one and no other.
    One(Host),
    /// `*.` and this: every name below it, by one label or more, and not itself.
    Below(Box<str>),
}

impl TunnelTo {
    fn takes(&self, host: &Host, port: u16) -> bool {
        let takes_host = match (&self.host, host) {
            (TunnelHost::One(one), host) => one == host,
            (TunnelHost::Below(parent), Host::Name(name)) => {
                name.strip_suffix(&**parent).is_some_and(|below| below.len() > 1 && below.ends_with('.'))
            }
            // What is below a name is no address.
            (TunnelHost::Below(_), Host::Ip(_)) => false,
        };
        self.port == port && takes_host
    }
}

impl fmt::Display for TunnelTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            TunnelHost::One(host) => write!(f, "{host}:{}", self.port),
            TunnelHost::Below(parent) => write!(f, "*.{parent}:{}", self.port),
        }
    }
}

/// A route that intercepts, and the listener that it is for.
type Intercepting = (Option<usize>, Arc<Route>);

/// Where CONNECT leads, compiled.
#[derive(Debug, Default)]
pub(super) struct Connects {
    tunnels: Option<(Vec<TunnelTo>, RouteMetrics)>,
    /// The routes that intercept, by their upstream.
    intercepted: HashMap<(Host, u16), Vec<Intercepting>>,
}

/// One of `tunnel` takes this host and port, for a caller that may use the listener.
///
/// Made only by [`Routes::connect`].
#[derive(Debug)]
pub struct Tunnelled {
    authority: Authority,
    is_named: bool,
    metrics: RouteMetrics,
}

/// A route that intercepts leads to this authority, and its caller may use it.
///
/// Made only by [`Routes::connect`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intercepted {
    authority: Authority,
    caller: Option<Caller>,
}

/// What a CONNECT leads to.
#[derive(Debug)]
pub enum Connect {
    Tunnel(Tunnelled),
    Intercept(Intercepted),
}

const UPSTREAM: &str = "the route that leads there does not `intercept`; without that, ask for http:// by this proxy \
                        instead of https://: it is sent over TLS all the same";
const STRANGER: &str = "no entry of `tunnel` has this host and port, and no route with `intercept` has them as its \
                        upstream; one of the two has to name it";

impl Connects {
    /// `listener` is the one that the route is for.
    pub(super) fn intercept(&mut self, listener: Option<usize>, route: &Arc<Route>) {
        let upstream = &route.settings.upstream;
        let place = (upstream.authority.host.clone(), upstream.port());
        self.intercepted.entry(place).or_default().push((listener, Arc::clone(route)));
    }

    pub(super) fn tunnel(&mut self, to: Vec<TunnelTo>, metrics: impl FnOnce() -> RouteMetrics) {
        self.tunnels = (!to.is_empty()).then(|| (to, metrics()));
    }

    /// The routes of this listener that intercept what is for this place.
    fn intercepting(&self, place: &(Host, u16), listener: usize) -> impl Iterator<Item = &Arc<Route>> {
        let there = self.intercepted.get(place).into_iter().flatten();
        there.filter(move |(own, _)| own.is_none_or(|own| own == listener)).map(|(_, route)| route)
    }
}

impl Routes {
    /// Decides about a CONNECT. `caller` is whom [`Clients::name`](super::Clients::name) found behind it.
    ///
    /// # Errors
    /// The refusal; who may not call learns nothing of the routes.
    pub fn connect(
        &self,
        target: &Target,
        headers: &HeaderMap,
        arrival: &Arrival,
        caller: Option<&Caller>,
    ) -> Result<Connect, Refusal> {
        let Form::Tunnel(authority) = target.form() else { return Err(Refusal::NoTunnel(STRANGER)) };
        if self.guards().is_foreign_page(headers, target, arrival) {
            return Err(Refusal::WebOrigin);
        }
        if arrival.must_be_named && caller.is_none() {
            return Err(Refusal::CallerUnknown);
        }
        let connects = self.connects();
        let (host, port) = (&authority.host, authority.port_or(443));
        let place = (host.clone(), port);
        // One of them at the least has to let the caller in; each request inside is held to its own.
        let lets_in = |route: &Arc<Route>| route.lets_in(arrival, caller);
        let may = connects.intercepting(&place, arrival.listener).map(lets_in).reduce(Result::or);
        if let Some(may) = may {
            may?;
            // What named it has done its work.
            let caller = caller.map(|caller| Caller { name: Arc::clone(&caller.name), by: None });
            return Ok(Connect::Intercept(Intercepted { authority: authority.clone(), caller }));
        }
        match &connects.tunnels {
            Some((to, metrics)) if to.iter().any(|to| to.takes(host, port)) => {
                let is_named = to.iter().any(|to| to.takes(host, port) && matches!(to.host, TunnelHost::One(_)));
                Ok(Connect::Tunnel(Tunnelled { authority: authority.clone(), is_named, metrics: metrics.clone() }))
            }
            _ if self.all().any(|route| {
                let upstream = &route.settings.upstream;
                upstream.authority.host == *host && upstream.port() == port
            }) =>
            {
                Err(Refusal::NoTunnel(UPSTREAM))
            }
            Some(_) | None => Err(Refusal::NoTunnel(STRANGER)),
        }
    }
}

impl Tunnelled {
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Whether `tunnel` names this very host; else it is the app's choice, below a wildcard.
    pub fn is_named(&self) -> bool {
        self.is_named
    }

    pub fn metrics(&self) -> &RouteMetrics {
        &self.metrics
    }
}

impl Intercepted {
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Who named itself at the CONNECT: that holds for all that is inside.
    pub fn caller(&self) -> Option<&Caller> {
        self.caller.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use http::{Request, header};

    use super::super::admit::tests::{observer, routes_for};
    use super::*;
    use crate::rules::settings::ClientSettings;
    use crate::secret::Secret;

    fn to(text: &str) -> TunnelTo {
        let (below, rest) = text.strip_prefix("*.").map_or((false, text), |rest| (true, rest));
        let Authority { host, port } = Authority::parse(rest).unwrap();
        let host = match (below, host) {
            (true, Host::Name(parent)) => TunnelHost::Below(parent),
            (_, host) => TunnelHost::One(host),
        };
        TunnelTo { host, port: port.unwrap() }
    }

    fn connect(
        routes: &Routes,
        listener: usize,
        place: &str,
        lines: &[(&'static str, &str)],
    ) -> Result<Connect, Refusal> {
        let mut head = Request::builder().method("CONNECT").uri(place).header(header::HOST, place);
        for (name, value) in lines {
            head = head.header(*name, *value);
        }
        let (head, ()) = head.body(()).unwrap().into_parts();
        let arrival = Arrival { listener, ..Arrival::default() };
        let target = Target::of(&head).unwrap();
        let caller = routes.clients().name(&arrival, &head.headers, target.form());
        routes.connect(&target, &head.headers, &arrival, caller.as_ref())
    }

    #[test]
    fn a_wildcard_is_all_below_a_name_and_nothing_else() {
        for (pattern, takes, others) in [
            ("a.test:443", &["a.test", "A.TEST."][..], &["b.test", "x.a.test", "a.test.evil", "xa.test"][..]),
            ("*.a.test:443", &["x.a.test", "y.x.a.test", "X.A.TEST"], &["a.test", "xa.test", "a.test.x", "test"]),
            ("192.0.2.1:443", &["192.0.2.1"], &["192.0.2.2", "1.192.0.2.1.test"]),
            ("[2001:db8::1]:443", &["[2001:DB8:0::1]"], &["[2001:db8::2]"]),
        ] {
            let to = to(pattern);
            let takes_host = |host: &str, port| to.takes(&Host::parse(host).unwrap(), port);
            for host in takes {
                assert!(takes_host(host, 443) && !takes_host(host, 444), "{pattern} {host}");
            }
            for host in others {
                assert!(!takes_host(host, 443), "{pattern} {host}");
            }
            assert_eq!(to.to_string(), pattern);
        }
    }

    #[test]
    fn an_interception_beats_a_tunnel_and_the_rest_is_nowhere() {
        let rows = [
            ("in", None, None, None, "https://in.test/base"),
            ("port", None, None, Some("/p"), "https://in.test:8443"),
            ("of-one", Some(1), None, Some("/o"), "https://one.test"),
            ("plain", None, None, Some("/x"), "https://plain.test"),
        ];
        let routes = routes_for(&[], &rows, |settings| settings.intercept = &*settings.name != "plain");
        let (hidden, none) =
            (routes_for(&[], &rows, |_| {}), |routes: &Routes, place| match connect(routes, 0, place, &[]) {
                Err(Refusal::NoTunnel(why)) => why,
                other => panic!("{place}: {other:?}"),
            });
        assert_eq!((none(&hidden, "in.test:443"), none(&hidden, "evil.test:443")), (UPSTREAM, STRANGER));
        assert_eq!((none(&routes, "plain.test:443"), none(&routes, "evil.test:443")), (UPSTREAM, STRANGER));
        let tunnels = ["in.test:443", "*.test:443"].map(to).to_vec();
        let routes = routes.with_tunnels(tunnels, || observer().route(&"tunnel".into()));
        for (listener, place, intercepted) in [
            (0, "in.test:443", true),
            (0, "IN.test:443", true),
            (0, "in.test:8443", true),
            (1, "one.test:443", true),
            // Another listener's, so it is only what `tunnel` says.
            (0, "one.test:443", false),
            (0, "plain.test:443", false),
        ] {
            let connect = connect(&routes, listener, place, &[]).unwrap();
            assert_eq!(matches!(connect, Connect::Intercept(_)), intercepted, "{listener} {place}");
        }
        for place in ["in.test:444", "one.test:8443", "evil.example:443", "127.0.0.1:443"] {
            assert_eq!(none(&routes, place), STRANGER, "{place}");
        }
        let routes =
            routes.with_tunnels(["*.test:443", "a.test:443"].map(to).to_vec(), || observer().route(&"t".into()));
        for (place, is_named) in [("a.test:443", true), ("b.test:443", false)] {
            let Ok(Connect::Tunnel(to)) = connect(&routes, 0, place, &[]) else { panic!("{place}") };
            assert_eq!(to.is_named(), is_named, "{place}");
        }
    }

    #[test]
    fn a_web_page_makes_no_tunnel() {
        let routes =
            routes_for(&[], &[("in", None, None, None, "https://in.test")], |settings| settings.intercept = true);
        let page = [("origin", "https://evil.test")];
        assert!(matches!(connect(&routes, 0, "in.test:443", &page), Err(Refusal::WebOrigin)));
    }

    #[test]
    fn callers_are_those_of_the_routes_that_lead_there() {
        let client = |name: &str| ClientSettings { name: name.into(), uid: None, cert_san: None, password: None };
        let with = |open: bool| {
            let rows =
                [("a", None, None, Some("/a"), "https://in.test"), ("b", None, None, Some("/b"), "https://in.test")];
            let clients = [client("billing"), client("batch")];
            let routes = routes_for(&clients, &rows, |settings| {
                settings.intercept = true;
                if !open || &*settings.name == "a" {
                    settings.callers = vec!["billing".into()];
                }
            });
            for (client, password) in [(0, "1"), (1, "2")] {
                routes.clients().set_password(client, &Secret::new(password.to_owned()));
            }
            routes
        };
        let named = |routes: &Routes, pair: Option<&str>| {
            use base64::Engine as _;
            let line = pair.map(|pair| format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair)));
            let lines: Vec<_> = line.iter().map(|line| ("proxy-authorization", line.as_str())).collect();
            connect(routes, 0, "in.test:443", &lines).map(|connect| match connect {
                Connect::Intercept(inside) => {
                    inside.caller().map(|caller| (caller.name.to_string(), caller.by.clone()))
                }
                Connect::Tunnel(to) => panic!("{to:?}"),
            })
        };
        let billing = Some(("billing".to_owned(), None));
        let closed = with(false);
        assert_eq!(named(&closed, Some("billing:1")), Ok(billing.clone()));
        assert_eq!(
            (named(&closed, None), named(&closed, Some("billing:2"))),
            (Err(Refusal::CallerUnknown), Err(Refusal::CallerUnknown))
        );
        assert!(matches!(named(&closed, Some("batch:2")), Err(Refusal::NotAllowed(_))));
        let open = with(true);
        assert_eq!((named(&open, Some("billing:1")), named(&open, None)), (Ok(billing), Ok(None)));
    }
}
