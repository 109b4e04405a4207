//! From an alleged target to an admitted one, or to the reason why not.
//!
//! The only place that makes an [`Admitted`]. The order is the one of the security review: method, Host, web page,
//! caller, route, own credential, path. Who may not call learns nothing of the routes.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, header};

use super::callers::{Arrival, Caller, Clients};
use super::connect::{Connects, TunnelTo};
use super::gate::Gate;
use super::guards::Guards;
use super::settings::{Allow, OnAuthorization, RouteSettings, Upstream};
use super::table::Table;
use crate::observe::{RouteMetrics, RouteSample};
use crate::token::Reader;
use crate::wire::authority::Host;
use crate::wire::form::{Form, Target};
use crate::wire::path;

/// A compiled route's name in pools. No other of this process has it, nor has what a reload makes of the same settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RouteId(u64);

impl RouteId {
    pub fn unique() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// A configured route, with the handle to its token and nobody else's.
pub struct Route {
    pub id: RouteId,
    pub settings: RouteSettings,
    /// `None` is `token: none`.
    pub token: Option<Reader>,
    pub metrics: RouteMetrics,
    pub gate: Gate,
    /// The upstream's authority as a header.
    pub host: HeaderValue,
}

impl Route {
    /// How full it is. `None` while nobody has used it: of ten thousand routes a scrape is not to tell ten thousand
    /// zeros.
    pub fn sample(&self) -> Option<RouteSample> {
        let (in_flight, queued) = (self.gate.in_flight(), self.gate.queued());
        let is_used = in_flight + queued > 0 || self.metrics.is_used();
        is_used.then(|| RouteSample { route: Arc::clone(&self.settings.name), in_flight, queued })
    }
}

/// All routes, compiled.
pub struct Routes {
    routes: Vec<Arc<Route>>,
    /// For origin-form: by Host and local path.
    local: Table<Host>,
    /// For absolute-form: by the upstream's own authority, and what each route reaches there.
    absolute: Table<(Host, u16)>,
    /// Paths that are answered with a placeholder token, likewise.
    local_stubs: Table<Host>,
    absolute_stubs: Table<(Host, u16)>,
    connects: Connects,
    guards: Guards,
    clients: Arc<Clients>,
}

/// A rule accepted this target for this listener; it names where to send it, and with whose token.
///
/// Made only by [`Routes::admit`].
#[derive(Clone)]
pub struct Admitted {
    route: Arc<Route>,
    path: PathAndQuery,
}

/// What becomes of a request that may be made.
#[derive(Clone)]
pub enum Admission {
    /// It goes to the upstream.
    Forward(Admitted),
    /// It asks for a token where this route has a placeholder (`stub_token`), and goes nowhere.
    StubToken(Arc<Route>),
}

/// Why a target is not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    HostNotOurs,
    WebOrigin,
    OwnCredential,
    /// Whoever it is has to prove who it is.
    CallerUnknown,
    /// The text says what is not, for the app.
    NotAllowed(&'static str),
    /// Origin-form, and no route takes the path.
    NoRoute,
    /// Absolute-form, to a place that no route names.
    Foreign,
    /// CONNECT, to a place that nothing leads to. The text is for the app.
    NoTunnel(&'static str),
    /// A path that servers read in different ways, on a route whose rules depend on it. The text is for the app.
    BadPath(&'static str),
}

impl Routes {
    /// `listener` is, for each route, the index of the listener that it names.
    pub fn new(routes: Vec<(Arc<Route>, Option<usize>)>, guards: Guards, clients: Arc<Clients>) -> Self {
        let (mut local, mut absolute) = (Table::default(), Table::default());
        let (mut local_stubs, mut absolute_stubs) = (Table::default(), Table::default());
        for (index, (route, listener)) in routes.iter().enumerate() {
            let matching = &route.settings.matching;
            local.insert(*listener, matching.host.clone(), matching.path.as_deref().unwrap_or(""), index);
            if let Some(path) = &route.settings.stub_token {
                local_stubs.insert(*listener, matching.host.clone(), path, index);
            }
        }
        let place = |upstream: &Upstream, port| (upstream.authority.host.clone(), port);
        let restricted: HashSet<_> = routes
            .iter()
            .filter(|(route, _)| route.settings.is_restricted())
            .map(|(route, _)| place(&route.settings.upstream, route.settings.upstream.port()))
            .collect();
        // A client that is to use a proxy writes http:// and no port for what we reach over TLS. These come second, so
        // that an upstream that really is on port 80 wins.
        for by_port_80 in [false, true] {
            let of_upstream = |upstream: &Upstream| match by_port_80 {
                false => Some(upstream.port()),
                true => (upstream.https && upstream.port() == 443).then_some(80),
            };
            // What a route reaches is its own, so that its rules hold for a URL as they do for a path.
            for (index, (route, listener)) in routes.iter().enumerate() {
                let upstream = &route.settings.upstream;
                if let Some(port) = of_upstream(upstream) {
                    absolute.insert(*listener, Some(place(upstream, port)), &route.settings.reach(), index);
                    if let Some(path) = &route.settings.stub_token {
                        absolute_stubs.insert(*listener, Some(place(upstream, port)), path, index);
                    }
                }
            }
            // The rest below its base is the first's; but where somebody restricted something, nobody gets there by the
            // way.
            for (index, (route, listener)) in routes.iter().enumerate() {
                let upstream = &route.settings.upstream;
                if let Some(port) = of_upstream(upstream)
                    && !restricted.contains(&place(upstream, upstream.port()))
                {
                    absolute.insert(*listener, Some(place(upstream, port)), &upstream.base_path, index);
                }
            }
        }
        let mut connects = Connects::default();
        let compile = |(route, listener): (Arc<Route>, Option<usize>)| {
            if route.settings.intercept {
                connects.intercept(listener, &route);
            }
            route
        };
        let routes = routes.into_iter().map(compile).collect();
        Self { routes, local, absolute, local_stubs, absolute_stubs, connects, guards, clients }
    }

    /// From now on CONNECT leads to these places, too, and is counted by `metrics`.
    pub fn with_tunnels(mut self, to: Vec<TunnelTo>, metrics: impl FnOnce() -> RouteMetrics) -> Self {
        self.connects.tunnel(to, metrics);
        self
    }

    pub(super) fn connects(&self) -> &Connects {
        &self.connects
    }

    pub fn guards(&self) -> &Guards {
        &self.guards
    }

    pub fn clients(&self) -> &Arc<Clients> {
        &self.clients
    }

    pub fn all(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.routes.iter()
    }

    /// Decides about a request. `caller` is whom [`Clients::name`] found behind it.
    ///
    /// # Errors
    /// The refusal, and the route if one was found before it.
    pub fn admit(
        &self,
        target: &Target,
        method: &Method,
        headers: &HeaderMap,
        arrival: &Arrival,
        caller: Option<&Caller>,
    ) -> Result<Admission, (Refusal, Option<Arc<Route>>)> {
        // CONNECT is no request, and TRACE would read the token back to whoever asks.
        match *method {
            Method::CONNECT => {
                return Err((Refusal::NoTunnel("CONNECT is for HTTP/1.1, and for the outermost of it"), None));
            }
            Method::TRACE => {
                return Err((Refusal::NotAllowed("TRACE would read the token back to whoever asks"), None));
            }
            _ => {}
        }
        if let Form::Origin(Some(authority)) = target.form()
            && !arrival.is_unix()
            && !self.guards.is_ours(&authority.host)
        {
            return Err((Refusal::HostNotOurs, None));
        }
        if self.guards.is_foreign_page(headers, target, arrival) {
            return Err((Refusal::WebOrigin, None));
        }
        if arrival.must_be_named && caller.is_none() {
            return Err((Refusal::CallerUnknown, None));
        }
        if let Some(route) = self.stub(target, method, arrival.listener) {
            return match route.lets_in(arrival, caller) {
                Ok(()) => Ok(Admission::StubToken(Arc::clone(route))),
                Err(refusal) => Err((refusal, Some(Arc::clone(route)))),
            };
        }
        let route = self.find(target, arrival.listener)?;
        match route.path_for(target, method, headers, arrival, caller) {
            Ok(path) => Ok(Admission::Forward(Admitted { route: Arc::clone(route), path })),
            Err(refusal) => Err((refusal, Some(Arc::clone(route)))),
        }
    }

    /// The route that has a placeholder token for this request. RFC 6749, 3.2: tokens are asked for by POST; whatever else
    /// is sent there is a request like any other.
    fn stub(&self, target: &Target, method: &Method, listener: usize) -> Option<&Arc<Route>> {
        if *method != Method::POST {
            return None;
        }
        let path = target.path().path();
        let found = match target.form() {
            Form::Origin(authority) => {
                self.local_stubs.exact(listener, authority.as_ref().map(|authority| &authority.host), path)
            }
            Form::Absolute { authority, https } => {
                let place = (authority.host.clone(), authority.port_or(if *https { 443 } else { 80 }));
                self.absolute_stubs.exact(listener, Some(&place), path)
            }
            Form::Tunnel(_) => None,
        };
        found.and_then(|index| self.routes.get(index))
    }

    fn find(&self, target: &Target, listener: usize) -> Result<&Arc<Route>, (Refusal, Option<Arc<Route>>)> {
        let path = target.path().path();
        let (found, refusal) = match target.form() {
            Form::Origin(authority) => {
                let host = authority.as_ref().map(|authority| &authority.host);
                (self.local.find(listener, host, path), Refusal::NoRoute)
            }
            Form::Absolute { authority, https } => {
                let place = (authority.host.clone(), authority.port_or(if *https { 443 } else { 80 }));
                let found = self.absolute.find(listener, Some(&place), path);
                // Who asks for TLS does not get it in clear.
                let in_clear =
                    |index: &usize| self.routes.get(*index).is_some_and(|route| !route.settings.upstream.https);
                (found.filter(|index| !(*https && in_clear(index))), Refusal::Foreign)
            }
            Form::Tunnel(_) => (None, Refusal::NoRoute),
        };
        found.and_then(|index| self.routes.get(index)).ok_or((refusal, None))
    }
}

impl Route {
    /// Whether it is for this caller.
    pub(super) fn lets_in(&self, arrival: &Arrival, caller: Option<&Caller>) -> Result<(), Refusal> {
        match caller {
            _ if self.settings.callers.is_empty() => Ok(()),
            // Inside an interception there is nobody to name oneself to.
            None if arrival.intercepted.is_some() => Err(Refusal::NotAllowed(NAMED_AT_CONNECT)),
            None => Err(Refusal::CallerUnknown),
            Some(caller) if self.settings.callers.contains(&caller.name) => Ok(()),
            Some(_) => Err(Refusal::NotAllowed("this caller may not use this route")),
        }
    }

    /// Where on the upstream an admissible request goes.
    fn path_for(
        &self,
        target: &Target,
        method: &Method,
        headers: &HeaderMap,
        arrival: &Arrival,
        caller: Option<&Caller>,
    ) -> Result<PathAndQuery, Refusal> {
        let settings = &self.settings;
        self.lets_in(arrival, caller)?;
        if settings.authorization == OnAuthorization::Reject {
            // What named the caller was for us.
            let is_for_us = caller.is_some_and(|caller| caller.by == Some(header::AUTHORIZATION));
            if (headers.contains_key(header::AUTHORIZATION) && !is_for_us)
                || (settings.inject.header != header::AUTHORIZATION && headers.contains_key(&settings.inject.header))
            {
                return Err(Refusal::OwnCredential);
            }
        }
        let path = match target.form() {
            Form::Absolute { .. } | Form::Tunnel(_) => Some(target.path().clone()),
            Form::Origin(_) => local_path(settings, target.path()),
        };
        let path = path.ok_or(Refusal::BadPath("the upstream's base path and this one make no path"))?;
        permit(&settings.allow, &settings.upstream.base_path, method, path.path())?;
        Ok(path)
    }
}

impl RouteSettings {
    /// A request that is to change nothing at the upstream (RFC 9110, 9.2.1) and that the route's rules take: for the path
    /// that it reaches, or else for the first that `allow` names whole. `None` where it names none.
    pub fn harmless(&self) -> Option<(Method, PathAndQuery)> {
        let base = &*self.upstream.base_path;
        let below = self.allow.iter().filter_map(|rule| rule.path.literal()).map(|path| format!("{base}{path}"));
        for path in [self.reach()].into_iter().chain(below) {
            let path = if path.is_empty() { "/" } else { path.as_str() };
            for method in [Method::GET, Method::HEAD] {
                if permit(&self.allow, base, &method, path).is_ok() {
                    return Some((method, PathAndQuery::try_from(path).ok()?));
                }
            }
        }
        None
    }
}

const NAMED_AT_CONNECT: &str = "this route is for named callers, and a caller names itself at the CONNECT";

/// The methods that go without saying: those of RFC 9110 and PATCH, and QUERY, which is as safe as GET. Others mean to
/// a server what nobody here has thought of.
pub fn is_known(method: &Method) -> bool {
    match *method {
        Method::GET | Method::HEAD | Method::POST | Method::PUT | Method::DELETE | Method::PATCH | Method::OPTIONS => {
            true
        }
        _ => method.as_str() == "QUERY",
    }
}

/// Whether one of the rules takes the request, by the bytes that are sent; `path` begins with `base`.
fn permit(rules: &[Allow], base: &str, method: &Method, path: &str) -> Result<(), Refusal> {
    const UNKNOWN: Refusal = Refusal::NotAllowed("the method is not a usual one; the route can list it in `allow`");
    if rules.is_empty() {
        return if is_known(method) { Ok(()) } else { Err(UNKNOWN) };
    }
    // A rule for what nobody can read in two ways is the only kind there is.
    path::check_strict(path).map_err(Refusal::BadPath)?;
    let below = match path.strip_prefix(base) {
        Some("") => "/",
        Some(below) => below,
        None => return Err(Refusal::BadPath("the path is not below the upstream's")),
    };
    let takes_method = |rule: &&Allow| match &rule.methods[..] {
        [] => is_known(method),
        listed => listed.contains(method),
    };
    let mut takes_path = rules.iter().filter(|rule| rule.path.matches(below)).peekable();
    if takes_path.peek().is_none() {
        return Err(Refusal::NotAllowed("none of the route's `allow` rules takes this path"));
    }
    if takes_path.any(|rule| takes_method(&rule)) {
        return Ok(());
    }
    Err(Refusal::NotAllowed("the route's `allow` rules take this path, but not with this method"))
}

/// The upstream's path for a local one, byte for byte: the matched prefix taken off if so configured, the base put on.
fn local_path(settings: &RouteSettings, local: &PathAndQuery) -> Option<PathAndQuery> {
    let base = &*settings.upstream.base_path;
    let stripped = match &settings.matching.path {
        Some(prefix) if settings.strip_prefix => prefix.len(),
        Some(_) | None => 0,
    };
    if base.is_empty() && stripped == 0 {
        return Some(local.clone());
    }
    let rest = local.as_str().get(stripped..)?;
    let slash = if base.is_empty() && !rest.starts_with('/') { "/" } else { "" };
    PathAndQuery::from_maybe_shared(Bytes::from([base, slash, rest].concat())).ok()
}

impl Admitted {
    pub fn route(&self) -> &Arc<Route> {
        &self.route
    }

    /// Path and query as the upstream gets them.
    pub fn path(&self) -> &PathAndQuery {
        &self.path
    }
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Route({})", self.settings.name)
    }
}

#[cfg(test)]
#[path = "admit_tests.rs"]
pub(super) mod tests;
