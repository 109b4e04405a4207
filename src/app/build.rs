//! From a plan to bound sockets and compiled routes. Nothing is spawned and nothing is asked yet, so that whatever is
//! wrong is wrong before anything began.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use super::compiled::Compiled;
use super::fixed::Fixed;
use super::reload::Reload;
use super::service::Service;
use crate::ca::CaError;
use crate::config::Plan;
use crate::inbound::inherited::InheritedFault;
use crate::inbound::listener::BindError;
use crate::inbound::{self, Address, Door, Inherited, ListenSettings};
use crate::life::{Latch, Readiness};
use crate::observe::Observer;
use crate::observe::access::{Sheet, SheetError};
use crate::outbound::{AddressGuard, DestinationError};
use crate::tls::{Protocols, TlsError};
use crate::token::RegistryError;

/// An app that could run.
pub struct Bound {
    /// One for each listener, admin and health.
    pub(super) doors: Vec<Arc<Door>>,
    pub(super) listeners: Vec<inbound::Bound>,
    pub(super) admin: Vec<inbound::Bound>,
    pub(super) health: Vec<inbound::Bound>,
    pub(super) compiled: Compiled,
    pub(super) fixed: Fixed,
    /// What was read for it.
    pub(super) files: BTreeSet<PathBuf>,
    pub(super) reload: Option<Reload>,
    pub(super) service: Service,
    pub(super) observer: Observer,
    pub(super) access_log: Option<Sheet>,
    pub(super) readiness: Readiness,
    /// Held until everything has begun, so that nobody is told "ready" before.
    pub(super) beginning: Latch,
}

/// Why a plan cannot be carried out on this machine.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error(transparent)]
    Inherited(#[from] InheritedFault),
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
    #[error(
        "intercept: the local authority that is in use is for other hosts, and apps that run would not trust one that is \
         made anew; restart bearerd, and then the apps"
    )]
    OtherHosts,
    #[error("route `{route}`: {problem}")]
    Plan { route: Arc<str>, problem: &'static str },
}

impl Bound {
    /// Binds every socket that was not inherited, and compiles every route.
    ///
    /// # Errors
    /// An address is taken, an inherited socket is at none, or a file that the configuration names is not what it should be.
    pub fn new(plan: Plan, mut inherited: Inherited, observer: Observer) -> Result<Self, AppError> {
        let access_log = plan.access_log.as_ref().map(Sheet::open).transpose()?;
        let (fixed, files) = (Fixed::of(&plan), plan.files.clone());
        let all = fixed.admin.iter().chain(&fixed.health).chain(&fixed.listeners);
        inherited.all_needed(all.map(|settings| &settings.addresses))?;
        let (mut doors, mut listeners) = (Vec::new(), Vec::new());
        let (mut admin, mut health) = (Vec::new(), Vec::new());
        let compiled = Compiled::new(plan, &fixed, None, &observer, |destinations| {
            let mut bind = |settings: &ListenSettings, index, protocols| {
                let name = Arc::clone(&settings.name);
                let door = Door::new(settings, index, protocols);
                let door = Arc::new(door.map_err(|error| AppError::Listener { listener: name, error })?);
                doors.push(Arc::clone(&door));
                Ok::<_, AppError>(inbound::Bound::all(&settings.addresses, &door, &mut inherited, &observer)?)
            };
            for (pages, settings) in [(&mut admin, &fixed.admin), (&mut health, &fixed.health)] {
                if let Some(settings) = settings {
                    *pages = bind(settings, 0, Protocols::Http1)?;
                }
            }
            for (index, listener) in fixed.listeners.iter().enumerate() {
                listeners.extend(bind(listener, index, Protocols::Either)?);
            }
            Ok(destinations.guarded_by(AddressGuard::new(tcp(&listeners), [tcp(&admin), tcp(&health)].concat())))
        })?;
        let readiness = Readiness::default();
        Ok(Self {
            doors,
            listeners,
            admin,
            health,
            compiled,
            fixed,
            files,
            reload: None,
            service: Service::default(),
            observer,
            access_log,
            beginning: readiness.block("the listeners".into()),
            readiness,
        })
    }

    /// Has it put another configuration in force whenever there is one.
    pub fn reloading(self, reload: Reload) -> Self {
        Self { reload: Some(reload), ..self }
    }

    /// Has it tell a service manager how far it is.
    pub fn telling(self, service: Service) -> Self {
        Self { service, ..self }
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

fn tcp(bounds: &[inbound::Bound]) -> Vec<SocketAddr> {
    let address = |bound: &inbound::Bound| match bound.address {
        Address::Tcp(address) => Some(address),
        Address::Unix(_) => None,
    };
    bounds.iter().filter_map(address).collect()
}
