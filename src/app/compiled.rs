//! From a plan to what serves by it: tokens, routes, and where those lead. What a plan has in common with the one before
//! is the same thing in both, so that nobody notices a reload who has no part in it.
//!
//! Must never know sockets.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use http::HeaderValue;

use super::AppError;
use super::fixed::Fixed;
use crate::ca::{self, Ca, Origin};
use crate::config::{Plan, Shutdown};
use crate::inbound::{ListenAddress, ListenSettings, Live};
use crate::observe::Observer;
use crate::observe::access::AccessLog;
use crate::observe::event::Event;
use crate::observe::log::LogSettings;
use crate::outbound::Destinations;
use crate::rules::settings::{Callers, ClientSettings};
use crate::rules::{Clients, Gate, Guards, Route, RouteId, RouteSettings, Routes, TunnelTo};
use crate::tls::ClientConfigs;
use crate::token::Registry;
use crate::wire::authority::Host;

/// All of a plan that may change while it runs.
pub(super) struct Compiled {
    pub(super) registry: Arc<Registry>,
    pub(super) live: Arc<Live>,
    pub(super) callers: Arc<Callers>,
    pub(super) tunnels: Vec<TunnelTo>,
    pub(super) shutdown: Shutdown,
    pub(super) log: LogSettings,
    pub(super) access_log: Option<AccessLog>,
    /// Of the authority, if there is one.
    pub(super) ca_dir: PathBuf,
}

/// What runs while another plan is compiled.
#[derive(Clone, Copy)]
pub(super) struct Earlier<'a> {
    pub(super) now: &'a Compiled,
    /// One that is to follow, and waits for its tokens.
    pub(super) next: Option<&'a Compiled>,
}

impl Compiled {
    /// `finish` has the last word on where connections lead, when all else is well. Of a plan's settings, those in `fixed`
    /// are what runs.
    ///
    /// # Errors
    /// A file that the plan names is not what it should be, or the authority is for other hosts.
    pub(super) fn new(
        plan: Plan,
        fixed: &Fixed,
        earlier: Option<Earlier<'_>>,
        observer: &Observer,
        finish: impl FnOnce(Destinations) -> Result<Destinations, AppError>,
    ) -> Result<Self, AppError> {
        let ca = authority(&plan, earlier, observer)?;
        let Plan { tokens, routes, callers, tunnels, limits, shutdown, log, access_log, tracing, ca_dir, .. } = plan;
        let configs = ClientConfigs::default();
        let registries: Vec<&Registry> = match &earlier {
            None => Vec::new(),
            Some(Earlier { now, next }) => {
                [Some(*now), *next].into_iter().flatten().map(|one| &*one.registry).collect()
            }
        };
        let registry = Arc::new(Registry::after(&registries, tokens, fixed.state_dir.clone(), &configs)?);

        let now = earlier.map(|earlier| &*earlier.now.live);
        let before: HashMap<&str, &Arc<Route>> =
            now.into_iter().flat_map(|now| now.routes.all()).map(|route| (&*route.settings.name, route)).collect();
        let mut destinations = now.map_or_else(Destinations::default, |now| Destinations::after(&now.destinations));
        let guards = Guards::new(&callers, hosts(fixed.listeners.iter().chain(&fixed.admin), &routes));
        let mut compiled = Vec::with_capacity(routes.len());
        for settings in routes {
            let name = Arc::clone(&settings.name);
            let wrong = |problem| AppError::Plan { route: Arc::clone(&name), problem };
            let listener = settings.matching.listen.as_ref();
            let listener = listener.map(|name| fixed.listeners.iter().position(|one| one.name == *name));
            let listener = match listener {
                Some(None) => return Err(wrong("`match.listen` names no listener")),
                Some(listener) => listener,
                None => None,
            };
            let route = route(settings, &registry, observer).map_err(wrong)?;
            let kept = before.get(&*name).zip(now).filter(|(kept, now)| {
                kept.settings == route.settings
                    && is_same_token(kept, &route)
                    && destinations.keep(kept, &now.destinations, &configs)
            });
            let route = match kept {
                Some((kept, _)) => Arc::clone(kept),
                None => {
                    let led = destinations.add(route.id, &route.settings, &configs);
                    led.map_err(|error| AppError::Route { route: Arc::clone(&name), error })?;
                    Arc::new(route)
                }
            };
            compiled.push((route, listener));
        }
        let (callers, clients) = match now.zip(earlier) {
            Some((live, Earlier { now, .. })) if now.callers.clients == callers.clients => {
                // Hosts and origins are in the guards.
                let callers = if *now.callers == callers { Arc::clone(&now.callers) } else { Arc::new(callers) };
                (callers, Arc::clone(live.routes.clients()))
            }
            found => {
                let clients = Clients::new(&callers.clients);
                if let Some((live, Earlier { now, .. })) = found {
                    for (place, client) in callers.clients.iter().enumerate() {
                        let is_its = |one: &ClientSettings| one == client;
                        if let Some(other) = now.callers.clients.iter().position(is_its) {
                            clients.take_password(place, live.routes.clients(), other);
                        }
                    }
                }
                (Arc::new(callers), Arc::new(clients))
            }
        };
        let destinations = Arc::new(finish(destinations)?);
        let routes = Routes::new(compiled, guards, clients);
        let routes = Arc::new(routes.with_tunnels(tunnels.clone(), || observer.route(&TUNNEL.into())));
        let live = Arc::new(Live { routes, destinations, limits, tracing, ca });
        Ok(Self { registry, live, callers, tunnels, shutdown, log, access_log, ca_dir })
    }

    /// Whether the clients that prove their name by a password are the same in both, and their passwords with them.
    pub(super) fn shares_clients(&self, other: &Self) -> bool {
        Arc::ptr_eq(self.live.routes.clients(), other.live.routes.clients())
    }
}

/// What tunnels are counted as.
pub(super) const TUNNEL: &str = "tunnel";

/// The authority that apps trust, for the hosts of all routes that intercept.
fn authority(plan: &Plan, earlier: Option<Earlier<'_>>, observer: &Observer) -> Result<Option<Arc<Ca>>, AppError> {
    if !plan.intercepts() {
        return Ok(None);
    }
    let intercepting = plan.routes.iter().filter(|route| route.intercept);
    let hosts: BTreeSet<Host> = intercepting.map(|route| route.upstream.authority.host.clone()).collect();
    let known = earlier.map(|Earlier { now, next }| [Some(now), next]).into_iter().flatten().flatten();
    let mut known = known.filter_map(|compiled| compiled.live.ca.as_ref());
    if let Some(ca) = known.clone().find(|ca| ca.is_for(&hosts)) {
        return Ok(Some(Arc::clone(ca)));
    }
    if known.next().is_some() {
        return Err(AppError::OtherHosts);
    }
    let (ca, origin) = Ca::open(&plan.ca_dir, hosts)?;
    let anew = match origin {
        Origin::Kept => None,
        Origin::First => Some("it is the first"),
        Origin::Anew(why) => Some(why),
    };
    let certificate = ca::certificate(&plan.ca_dir).display().to_string();
    observer.tell(&Event::Authority { certificate: &certificate, anew });
    Ok(Some(Arc::new(ca)))
}

fn route(settings: RouteSettings, registry: &Registry, observer: &Observer) -> Result<Route, &'static str> {
    let token = match &settings.token {
        None => None,
        Some(token) => {
            Some(registry.reader(token, &settings.inject.scheme).ok_or("`token` names no configured token")?)
        }
    };
    let host = HeaderValue::from_str(&settings.upstream.authority.to_string());
    let host = host.map_err(|_| "the upstream's host cannot be sent as Host")?;
    let (metrics, gate) = (observer.route(&settings.name), Gate::new(settings.limits));
    Ok(Route { id: RouteId::unique(), settings, token, metrics, gate, host })
}

fn is_same_token(one: &Route, other: &Route) -> bool {
    match (&one.token, &other.token) {
        (None, None) => true,
        (Some(one), Some(other)) => one.is_same(other),
        (None, Some(_)) | (Some(_), None) => false,
    }
}

/// The hosts that the configuration itself makes ours.
fn hosts<'a>(listeners: impl Iterator<Item = &'a ListenSettings>, routes: &[RouteSettings]) -> Vec<Host> {
    let listening = listeners.filter_map(|listener| match listener.addresses {
        // Every address of this machine is none that a Host could be compared with.
        ListenAddress::At(address) => Some(address.ip()).filter(|ip| !ip.is_unspecified()).map(Host::Ip),
        ListenAddress::Localhost(_) | ListenAddress::Unix(_) => None,
    });
    let upstream = routes.iter().map(|route| route.upstream.authority.host.clone());
    let matched = routes.iter().filter_map(|route| route.matching.host.clone());
    listening.chain(upstream).chain(matched).collect()
}
