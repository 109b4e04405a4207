//! Health, metrics and status, for probes, scrapers and people.
//!
//! Runs on the control plane, so that a scrape never delays a request. Must never know a bearer: it sees
//! [`token::Status`](crate::token::Status), which has none.

mod status;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::clock::Now;
use crate::life::{DrainSignal, Phase, Readiness};
use crate::observe::Observer;
use crate::observe::event::Event;
use crate::rules::{Arrival, Routes};
use crate::token::{Registry, Status};
use crate::wire::form::Target;

/// What the admin pages are made from.
pub struct Admin {
    pub routes: Arc<Routes>,
    pub tokens: Statuses,
    pub readiness: Readiness,
    pub drain: DrainSignal,
    pub observer: Observer,
}

/// The tokens' statuses, and nothing else of them.
pub struct Statuses(Arc<Registry>);

impl Statuses {
    pub fn of(registry: Arc<Registry>) -> Self {
        Self(registry)
    }

    fn now(&self) -> Vec<Status> {
        self.0.statuses(Now::read())
    }
}

/// Which pages a listener has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pages {
    All,
    /// What a kubelet asks, which may come from anywhere and by any Host.
    Health,
}

/// Probes and scrapers need a handful; whoever opens more waits.
const MOST_CONNECTIONS: usize = 64;

/// For one request, its answer and the end: what takes longer is nobody's probe, and would keep others' out.
const WHOLE: Duration = Duration::from_secs(10);

const PAUSE: Duration = Duration::from_millis(100);

impl Admin {
    /// Serves until it is dropped; it goes on through a drain, so that the end can be watched.
    pub async fn serve(self: Arc<Self>, listener: TcpListener, pages: Pages) {
        let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, _)) => {
                    let admin = Arc::clone(&self);
                    tokio::spawn(async move {
                        admin.connection(stream, pages).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    self.observer.tell(&Event::AcceptFailed { listener: "admin", error: &error.to_string() });
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    async fn connection(&self, stream: TcpStream, pages: Pages) {
        let service =
            service_fn(|request: Request<Incoming>| async move { Ok::<_, Infallible>(self.answer(request, pages)) });
        let mut builder = http1::Builder::new();
        builder.header_read_timeout(None).keep_alive(false);
        // How it ends is the client's business.
        let _ = tokio::time::timeout(WHOLE, builder.serve_connection(TokioIo::new(stream), service)).await;
    }

    fn answer(&self, request: Request<Incoming>, pages: Pages) -> Response<Full<Bytes>> {
        let (head, _) = request.into_parts();
        let Ok(target) = Target::of(&head) else { return text(StatusCode::BAD_REQUEST, "bad request\n") };
        if let Some(refusal) = self.guard(&target, &head.headers, pages) {
            return refusal;
        }
        if head.method != Method::GET && head.method != Method::HEAD {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        match (target.path().path(), pages) {
            ("/livez", _) => text(StatusCode::OK, "ok\n"),
            ("/startupz", _) => self.ready(false),
            ("/readyz", _) => self.ready(true),
            ("/metrics", _) => self.metrics(),
            ("/status", Pages::All) => self.status(),
            (_, Pages::All) => text(StatusCode::NOT_FOUND, "/livez /startupz /readyz /metrics /status\n"),
            (_, Pages::Health) => text(StatusCode::NOT_FOUND, "/livez /startupz /readyz /metrics\n"),
        }
    }

    /// The rules that hold for the proxy hold here; a kubelet is no browser, and it calls by whatever address it has.
    fn guard(&self, target: &Target, headers: &HeaderMap, pages: Pages) -> Option<Response<Full<Bytes>>> {
        let guards = self.routes.guards();
        if guards.is_foreign_page(headers, target, &Arrival::default()) {
            return Some(text(StatusCode::FORBIDDEN, "web pages may not call\n"));
        }
        let ours = target.authority().is_none_or(|authority| guards.is_ours(&authority.host));
        if pages == Pages::All && !ours {
            return Some(text(StatusCode::MISDIRECTED_REQUEST, "the Host is not one of ours; use localhost\n"));
        }
        None
    }

    fn ready(&self, ends_with_drain: bool) -> Response<Full<Bytes>> {
        if ends_with_drain && self.drain.phase() != Phase::Serving {
            return text(StatusCode::SERVICE_UNAVAILABLE, "draining\n");
        }
        let pending = self.readiness.pending();
        if pending.is_empty() {
            return text(StatusCode::OK, "ok\n");
        }
        let waiting: String = pending.iter().map(|name| format!("waiting for {name}\n")).collect();
        text(StatusCode::SERVICE_UNAVAILABLE, &waiting)
    }

    fn metrics(&self) -> Response<Full<Bytes>> {
        let samples: Vec<_> = self.tokens.now().iter().map(Status::sample).collect();
        let mut response = text(StatusCode::OK, &self.observer.render(&samples));
        let open_metrics = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
        response.headers_mut().insert(header::CONTENT_TYPE, open_metrics);
        response
    }

    fn status(&self) -> Response<Full<Bytes>> {
        let mut response = text(StatusCode::OK, &status::document(self).to_string());
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }
}

fn text(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(Bytes::copy_from_slice(text.as_bytes())));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
