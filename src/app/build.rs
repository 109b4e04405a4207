//! From a plan to bound sockets and compiled routes. Nothing is spawned and nothing is asked yet, so that whatever is
//! wrong is wrong before anything began.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use http::HeaderValue;

use crate::ca::{self, Ca, CaError, Origin};
use crate::config::{Plan, Shutdown};
use crate::inbound::listener::BindError;
use crate::inbound::settings::{Limits, ListenAddress, ListenSettings};
use crate::inbound::{self, Address, Door};
use crate::life::{Latch, Readiness};
use crate::observe::Observer;
use crate::observe::access::{Sheet, SheetError};
use crate::observe::event::Event;
use crate::outbound::{AddressGuard, DestinationError, Destinations};
use crate::rules::settings::ClientSettings;
use crate::rules::{Clients, Gate, Guards, Route, RouteSettings, Routes};
use crate::tls::{ClientConfigs, Protocols, TlsError};
use crate::token::{Registry, RegistryError};
use crate::wire::authority::Host;

/// An app that could run.
pub struct Bound {
    /// One for each listener, admin and health.
    pub(super) doors: Vec<Arc<Door>>,
    pub(super) listeners: Vec<inbound::Bound>,
    pub(super) admin: Vec<inbound::Bound>,
    pub(super) health: Vec<inbound::Bound>,
    pub(super) registry: Arc<Registry>,
    pub(super) routes: Arc<Routes>,
    pub(super) destinations: Arc<Destinations>,
    pub(super) ca: Option<Arc<Ca>>,
    pub(super) observer: Observer,
    pub(super) workers: usize,
    pub(super) clients: Vec<ClientSettings>,
    pub(super) limits: Limits,
    pub(super) shutdown: Shutdown,
    pub(super) access_log: Option<Sheet>,
    pub(super) tracing: bool,
    pub(super) readiness: Readiness,
    /// Held until everything has begun, so that nobody is told "ready" before.
    pub(super) beginning: Latch,
}

/// Why a plan cannot be carried out on this machine.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error("listener `{listener}`: tls: {error}")]
    Listener {
        listener: Arc<str>,
        #[source]
        error: TlsError,
    },
    #[error(transparent)]
    Token(#[from] RegistryError),
    #[error("route `{route}`: {error}")]
    Route {
        route: Arc<str>,
        #[source]
        error: DestinationError,
    },
    #[error("access_log: {0}")]
    AccessLog(#[from] SheetError),
    #[error("intercept: {0}")]
    Ca(#[from] CaError),
    #[error("route `{route}`: {problem}")]
    Plan { route: Arc<str>, problem: &'static str },
}

impl Bound {
    /// Binds every socket and compiles every route.
    ///
    /// # Errors
    /// An address is taken, or a file that the configuration names is not what it should be.
    pub fn new(plan: Plan, observer: Observer) -> Result<Self, AppError> {
        let ca = match plan.intercepts() {
            true => Some(Arc::new(authority(&plan, &observer)?)),
            false => None,
        };
        let access_log = plan.access_log.as_ref().map(Sheet::open).transpose()?;
        let Plan { listeners, admin, health, workers, shutdown, state_dir, .. } = plan;
        let Plan { tokens, routes, callers, tunnels, limits, tracing, .. } = plan;
        let configs = ClientConfigs::default();

        let mut schemes: BTreeMap<Arc<str>, Vec<String>> = BTreeMap::new();
        for route in &routes {
            if let Some(token) = &route.token {
                let schemes = schemes.entry(Arc::clone(token)).or_default();
                if !schemes.contains(&route.inject.scheme) {
                    schemes.push(route.inject.scheme.clone());
                }
            }
        }
        let registry = Arc::new(Registry::new(tokens, &schemes, state_dir, &configs)?);

        let guards = Guards::new(&callers, hosts(listeners.iter().chain(&admin), &routes));
        let named = Clients::new(&callers.clients);
        let mut destinations = Destinations::default();
        let mut compiled = Vec::with_capacity(routes.len());
        for (id, settings) in routes.into_iter().enumerate() {
            let name = Arc::clone(&settings.name);
            destinations
                .add(&settings, &configs)
                .map_err(|error| AppError::Route { route: Arc::clone(&name), error })?;
            let listener = settings.matching.listen.as_ref();
            let listener = listener.map(|name| listeners.iter().position(|one| one.name == *name));
            let wrong = |problem| AppError::Plan { route: Arc::clone(&name), problem };
            let listener = match listener {
                Some(None) => return Err(wrong("`match.listen` names no listener")),
                Some(listener) => listener,
                None => None,
            };
            compiled.push((route(id, settings, &registry, &observer).map_err(wrong)?, listener));
        }

        let mut doors = Vec::new();
        let mut bind = |settings: &ListenSettings, index, protocols| {
            let name = Arc::clone(&settings.name);
            let door =
                Door::new(settings, index, protocols).map_err(|error| AppError::Listener { listener: name, error })?;
            let door = Arc::new(door);
            doors.push(Arc::clone(&door));
            Ok::<_, AppError>(inbound::Bound::all(&settings.addresses, &door, &observer)?)
        };
        let mut page = |settings: Option<ListenSettings>| {
            settings.map_or(Ok(Vec::new()), |settings| bind(&settings, 0, Protocols::Http1))
        };
        let (admin, health) = (page(admin)?, page(health)?);
        let mut bound = Vec::new();
        for (index, listener) in listeners.iter().enumerate() {
            bound.extend(bind(listener, index, Protocols::Either)?);
        }
        let readiness = Readiness::default();
        let guard = AddressGuard::new(tcp(&bound), [tcp(&admin), tcp(&health)].concat());
        Ok(Self {
            doors,
            listeners: bound,
            admin,
            health,
            registry,
            routes: Arc::new(
                Routes::new(compiled, guards, named).with_tunnels(tunnels, || observer.route(&"tunnel".into())),
            ),
            ca,
            destinations: Arc::new(destinations.guarded_by(guard)),
            observer,
            workers,
            clients: callers.clients,
            limits,
            shutdown,
            access_log,
            tracing,
            beginning: readiness.block("the listeners".into()),
            readiness,
        })
    }

    /// Tells when every required token has been held, once it runs.
    pub fn readiness(&self) -> Readiness {
        self.readiness.clone()
    }

    /// Where apps connect by TCP, in the order of the configuration; a unix socket is where that says.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        tcp(&self.listeners)
    }

    pub fn admin_addresses(&self) -> Vec<SocketAddr> {
        tcp(&self.admin)
    }

    pub fn health_addresses(&self) -> Vec<SocketAddr> {
        tcp(&self.health)
    }
}

/// The authority that apps trust, for the hosts of all routes that intercept.
fn authority(plan: &Plan, observer: &Observer) -> Result<Ca, CaError> {
    let intercepting = plan.routes.iter().filter(|route| route.intercept);
    let hosts = intercepting.map(|route| route.upstream.authority.host.clone()).collect();
    let (ca, origin) = Ca::open(&plan.ca_dir, hosts)?;
    let anew = match origin {
        Origin::Kept => None,
        Origin::First => Some("it is the first"),
        Origin::Anew(why) => Some(why),
    };
    let certificate = ca::certificate(&plan.ca_dir).display().to_string();
    observer.tell(&Event::Authority { certificate: &certificate, anew });
    Ok(ca)
}

fn tcp(bounds: &[inbound::Bound]) -> Vec<SocketAddr> {
    let address = |bound: &inbound::Bound| match bound.address {
        Address::Tcp(address) => Some(address),
        Address::Unix(_) => None,
    };
    bounds.iter().filter_map(address).collect()
}

fn route(id: usize, settings: RouteSettings, registry: &Registry, observer: &Observer) -> Result<Route, &'static str> {
    let token = match &settings.token {
        None => None,
        Some(token) => {
            Some(registry.reader(token, &settings.inject.scheme).ok_or("`token` names no configured token")?)
        }
    };
    let host = HeaderValue::from_str(&settings.upstream.authority.to_string());
    let host = host.map_err(|_| "the upstream's host cannot be sent as Host")?;
    let (metrics, gate) = (observer.route(&settings.name), Gate::new(settings.limits));
    Ok(Route { id, settings, token, metrics, gate, host })
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
