//! Health, metrics and status, for probes, scrapers and people.
//!
//! Runs on the control plane, so that a scrape never delays a request. Must never know a bearer: it sees
//! [`token::Status`](crate::token::Status), which has none.

mod configuration;
mod page;
mod status;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

pub use self::configuration::{Attempt, Configuration};
use crate::bug;
use crate::clock::Now;
use crate::life::{DrainSignal, Phase, Readiness};
use crate::observe::{Listening, Observer, Samples, TokenState};
use crate::rules::callers::CHALLENGE;
use crate::rules::{Arrival, Routes};
use crate::token::machine::Cause;
use crate::token::{Registry, Status};
use crate::wire::form::Target;

/// What the admin pages are made from.
pub struct Admin {
    /// What is in force, which a reload exchanges.
    pub shown: ArcSwap<Shown>,
    pub configuration: Configuration,
    pub readiness: Readiness,
    pub drain: DrainSignal,
    pub observer: Observer,
    /// Where apps connect, in the order of the configuration.
    pub apps: Vec<Place>,
    /// What listens, and how much of it is in use; `inbound` is no room of ours.
    pub listening: Box<dyn Fn() -> Listening + Send + Sync>,
}

/// Where apps connect.
#[derive(Debug)]
pub struct Place {
    pub name: Arc<str>,
    /// `127.0.0.1:4280`, or `unix:` and a path.
    pub address: String,
    pub tls: bool,
}

/// The plan that is in force, as far as it is shown.
pub struct Shown {
    pub routes: Arc<Routes>,
    pub tokens: Statuses,
}

/// The tokens' statuses, and nothing else of them.
pub struct Statuses(Arc<Registry>);

impl Statuses {
    pub fn of(registry: Arc<Registry>) -> Self {
        Self(registry)
    }

    /// Ends whoever asks for them.
    pub fn end(&self) {
        self.0.end();
    }

    /// The names of those that have expired and that are to be replaced: one that nobody uses is not.
    pub fn expired(&self, now: Now) -> Vec<Arc<str>> {
        let is_wanted = |status: &Status| status.next_attempt_why != Some(Cause::Unused);
        let expired =
            self.at(now).into_iter().filter(|status| status.state == TokenState::Expired && is_wanted(status));
        expired.map(|status| status.name).collect()
    }

    fn at(&self, now: Now) -> Vec<Status> {
        self.0.statuses(now)
    }
}

/// Which pages a listener has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pages {
    All,
    /// What a kubelet asks, which may come from anywhere and by any Host.
    Health,
}

/// A probe says what it wants at once. Whoever does not would keep the next one out, which a kubelet waits for no
/// longer than this itself.
const HEAD: Duration = Duration::from_secs(1);

impl Admin {
    /// Serves one request, which came in so.
    pub async fn connection(&self, stream: impl AsyncRead + AsyncWrite + Unpin, arrival: &Arrival, pages: Pages) {
        let service = service_fn(|request: Request<Incoming>| async move {
            Ok::<_, Infallible>(self.answer(request, arrival, pages))
        });
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(HEAD).keep_alive(false);
        // How it ends is the client's business.
        let _ = builder.serve_connection(TokioIo::new(stream), service).await;
    }

    fn answer(&self, request: Request<Incoming>, arrival: &Arrival, pages: Pages) -> Response<Full<Bytes>> {
        bug::at("page");
        let (head, _) = request.into_parts();
        let Ok(target) = Target::of(&head) else { return text(StatusCode::BAD_REQUEST, "bad request\n") };
        if let Some(refusal) = self.guard(&target, &head.headers, arrival, pages) {
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
            (path, Pages::All) => page::file(path)
                .unwrap_or_else(|| text(StatusCode::NOT_FOUND, "/ /livez /startupz /readyz /metrics /status\n")),
            (_, Pages::Health) => text(StatusCode::NOT_FOUND, "/livez /startupz /readyz /metrics\n"),
        }
    }

    /// The rules that hold for the proxy hold here; a kubelet is no browser, and it calls by whatever address it has.
    fn guard(
        &self,
        target: &Target,
        headers: &HeaderMap,
        arrival: &Arrival,
        pages: Pages,
    ) -> Option<Response<Full<Bytes>>> {
        let shown = self.shown.load();
        let guards = shown.routes.guards();
        let any_host = pages == Pages::Health || arrival.is_unix();
        let ours = target.authority().is_none_or(|authority| guards.is_ours(&authority.host));
        if !any_host && !ours {
            return Some(text(StatusCode::MISDIRECTED_REQUEST, "the Host is not one of ours; use localhost\n"));
        }
        if guards.is_foreign_page(headers, target, arrival) {
            return Some(text(
                StatusCode::FORBIDDEN,
                "web pages may not call; to look at a page here, type its address\n",
            ));
        }
        if arrival.must_be_named && shown.routes.clients().name(arrival, headers, target.form()).is_none() {
            let mut response = text(StatusCode::UNAUTHORIZED, "name yourself as one of `callers.clients`\n");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, CHALLENGE);
            return Some(response);
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
        let now = Now::read();
        let shown = self.shown.load();
        let samples = Samples {
            tokens: shown.tokens.at(now).iter().map(|status| status.sample(now)).collect(),
            routes: shown.routes.all().filter_map(|route| route.sample()).collect(),
            listeners: (self.listening)(),
        };
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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::observe::log::{Format, Level, Log, LogSettings};
    use crate::rules::Guards;
    use crate::rules::settings::Callers;
    use crate::tls::ClientConfigs;

    fn admin() -> Admin {
        let registry = Registry::new(Vec::new(), None, &ClientConfigs::default()).unwrap();
        let guards = Guards::new(&Callers::default(), []);
        Admin {
            shown: ArcSwap::from_pointee(Shown {
                routes: Arc::new(Routes::new(Vec::new(), guards, Arc::default())),
                tokens: Statuses::of(Arc::new(registry)),
            }),
            configuration: Configuration::new("a test's own".to_owned()),
            readiness: Readiness::default(),
            drain: DrainSignal::default(),
            observer: Observer::new(Log::to(LogSettings { level: Level::Error, format: Format::Pretty }, |_| {})),
            apps: Vec::new(),
            listening: Box::new(Listening::default),
        }
    }

    /// The head of the answer to a `GET /status` with one more line, by one who came in so.
    async fn asked(line: &str, arrival: &Arrival) -> String {
        let (mut client, server) = tokio::io::duplex(64 * 1024);
        let request = format!("GET /status HTTP/1.1\r\nHost: localhost\r\n{line}\r\n\r\n");
        client.write_all(request.as_bytes()).await.unwrap();
        admin().connection(server, arrival, Pages::All).await;
        let mut heard = String::new();
        client.read_to_string(&mut heard).await.unwrap();
        heard.split("\r\n\r\n").next().unwrap().to_owned()
    }

    #[tokio::test]
    async fn who_must_have_a_name_and_has_none_is_asked_for_it() {
        let open = Arrival::default();
        let named = Arrival { must_be_named: true, tls: true, ..Arrival::default() };
        assert!(asked("X: y", &open).await.starts_with("HTTP/1.1 200 "));
        // Nobody has this name, whatever the password.
        for line in ["X: y", "Authorization: Basic bm9ib2R5Om5vdGhpbmc="] {
            let head = asked(line, &named).await;
            assert!(head.starts_with("HTTP/1.1 401 "), "{head}");
            assert!(head.contains("www-authenticate: Basic realm=\"bearerd\", charset=\"UTF-8\""), "{head}");
        }
        let head = asked("Origin: https://evil.test", &named).await;
        assert!(head.starts_with("HTTP/1.1 403 "), "a web page is not even asked: {head}");
    }
}
