//! The one table from what went wrong to what the app gets.
//!
//! Every failure answers: whose fault, worth another try or not, and in which word. What the app reads and what the
//! operator reads are different texts, and neither holds a byte that a peer chose.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use serde_json::json;

use super::exchange::Exchange;
use super::reply::Reply;
use crate::observe::reason::Reason;
use crate::rules::callers::{CHALLENGE, credential_header};
use crate::rules::gate::Full;
use crate::rules::{Arrival, Refusal};
use crate::token::NoToken;
use crate::wire::fault::{Fault, TlsFault};
use crate::wire::form::{FormError, Target};
use crate::wire::grpc::{self, Code};

/// Why bearerd answers a request itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    BadRequest(&'static str),
    AmbiguousHost(&'static str),
    BadPath(&'static str),
    HostNotOurs,
    WebOrigin,
    OwnCredential,
    /// Who calls must say who it is, in this header.
    CallerUnknown {
        header: HeaderName,
    },
    NotAllowed(&'static str),
    /// No route takes this path of ours.
    NoRoute,
    /// No route names that place.
    Foreign,
    /// Nothing leads to where a CONNECT is for.
    NoTunnel(&'static str),
    NoToken(NoToken),
    Upstream(Fault),
    /// The request is sent, and the head of the answer does not come.
    Unanswered,
    BadUpstream(&'static str),
    /// The route's places are taken, and its queue is full or too slow.
    Overloaded(Full),
    Internal,
}

/// One row of the table.
struct Row {
    status: StatusCode,
    reason: Reason,
    /// RFC 9209, 2.3: the kind of error in Proxy-Status.
    proxy_error: &'static str,
    title: &'static str,
    /// For the app.
    detail: String,
    /// For the operator, who can change the configuration; the same as for the app where it says it all.
    told: Option<String>,
    retry_after: Option<Duration>,
    /// How the caller may say who it is.
    challenge: Option<HeaderName>,
    /// Whether the app's connection is closed: after what may not have been one message, nothing else is believed.
    close: bool,
    /// What it is to gRPC, where that is not what the status says.
    code: Option<Code>,
}

/// How an app is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    Http,
    /// A refusal is an answer of trailers alone: the status is 200, and what it says stands in `grpc-status`.
    Grpc,
}

/// The word for why, where there is no problem document to hold it.
const REASON: &str = "bearerd-reason";

/// When to come back to what was full: the shortest that `Retry-After` can say.
const SOON: Duration = Duration::from_secs(1);

impl Failure {
    fn row(&self) -> Row {
        use StatusCode as S;
        let row = |status, reason, proxy_error, title, detail: &str| Row {
            status,
            reason,
            proxy_error,
            title,
            detail: detail.to_owned(),
            told: None,
            retry_after: None,
            challenge: None,
            close: false,
            code: None,
        };
        let told = |text: &str| Some(text.to_owned());
        match self {
            Self::BadRequest(detail) => Row {
                close: true,
                ..row(S::BAD_REQUEST, Reason::BadRequest, "http_request_error", "The request is malformed", detail)
            },
            Self::AmbiguousHost(detail) => Row {
                close: true,
                ..row(S::BAD_REQUEST, Reason::AmbiguousHost, "http_request_error", "The host is ambiguous", detail)
            },
            Self::BadPath(detail) => {
                row(S::BAD_REQUEST, Reason::BadPath, "http_request_error", "The path is not acceptable", detail)
            }
            Self::HostNotOurs => Row {
                told: told(
                    "its Host is not one of ours; if apps rightly call bearerd by it, list it in `callers.hosts`",
                ),
                ..row(
                    S::MISDIRECTED_REQUEST,
                    Reason::HostNotOurs,
                    "http_request_denied",
                    "The Host is not one of ours",
                    "use localhost, an upstream's host, or a name in `callers.hosts`",
                )
            },
            Self::WebOrigin => Row {
                told: told("a web page made it; if that page may use the token, list its origin in `callers.origins`"),
                ..row(
                    S::FORBIDDEN,
                    Reason::WebOrigin,
                    "http_request_denied",
                    "Web pages may not call",
                    "the request comes from a web page, whose origin would have to stand in `callers.origins`",
                )
            },
            Self::OwnCredential => Row {
                told: told(
                    "the app sends a credential of its own, and the route says `authorization: reject`; take it out of \
                     the app, or let `authorization: replace` drop it",
                ),
                ..row(
                    S::FORBIDDEN,
                    Reason::OwnCredential,
                    "http_request_denied",
                    "The request carries a credential of its own",
                    "leave it out: this route puts its own on (`authorization: reject`)",
                )
            },
            Self::CallerUnknown { header } => {
                let is_proxy = *header == header::PROXY_AUTHORIZATION;
                let (status, challenge, password) = match is_proxy {
                    true => (S::PROXY_AUTHENTICATION_REQUIRED, header::PROXY_AUTHENTICATE, "in the proxy's URL"),
                    false => (S::UNAUTHORIZED, header::WWW_AUTHENTICATE, "as `Authorization: Basic`"),
                };
                Row {
                    challenge: Some(challenge),
                    told: told(
                        "it proves by nothing that it is one of `callers.clients`: no uid, certificate or password of theirs",
                    ),
                    ..row(
                        status,
                        Reason::CallerUnknown,
                        "http_request_denied",
                        "Who calls is not known",
                        &format!("callers are named by uid, certificate or password ({password}): `callers.clients`"),
                    )
                }
            }
            Self::Overloaded(full) => Row {
                retry_after: Some(SOON),
                told: told(match full {
                    Full::Queue => {
                        "`limits.in_flight` requests are under way and `limits.queue` wait: the upstream is slower than what \
                         is asked of it"
                    }
                    Full::Late => {
                        "`limits.in_flight` requests are under way, and none of them ended within `limits.queue_wait`: the \
                         upstream is slower than what is asked of it"
                    }
                }),
                ..row(
                    S::SERVICE_UNAVAILABLE,
                    Reason::Overloaded,
                    "connection_limit_reached",
                    "Too many requests are under way",
                    "the route's `limits` are reached: the upstream is slower than what is asked of it",
                )
            },
            Self::NotAllowed(detail) => {
                row(S::FORBIDDEN, Reason::NotAllowed, "http_request_denied", "The request is not allowed", detail)
            }
            Self::NoRoute => Row {
                told: told(
                    "no route's `match` takes its listener, Host and path; a route without `match` takes the rest",
                ),
                ..row(
                    S::NOT_FOUND,
                    Reason::NoRoute,
                    "destination_not_found",
                    "No route takes this request",
                    "no configured route matches its listener, Host and path; `match` of a route says which it takes",
                )
            },
            Self::NoTunnel(detail) => Row {
                close: true,
                told: Some(format!("CONNECT, which a proxy client sends for an https:// URL: {detail}")),
                ..row(S::FORBIDDEN, Reason::NoRoute, "http_request_denied", "No tunnel leads there", detail)
            },
            Self::Foreign => Row {
                close: true,
                told: told(
                    "it is asked for as by a proxy, and no route of this listener has that host, port and base path as its \
                     upstream; add a route, or keep the app from using the proxy for it (`NO_PROXY`)",
                ),
                ..row(
                    S::FORBIDDEN,
                    Reason::NoRoute,
                    "http_request_denied",
                    "No route leads there",
                    "no configured route has this host, port and base path as its `upstream`; only what a route names is reached",
                )
            },
            Self::NoToken(missing) => Row {
                retry_after: Some(missing.retry_after),
                told: Some(format!("there is no token of `{}`; why, its `token_failed` lines say", missing.token)),
                ..row(
                    S::SERVICE_UNAVAILABLE,
                    Reason::NoToken,
                    "destination_unavailable",
                    "There is no access token",
                    &format!("the identity provider has granted none for `{}`; see bearerd's log", missing.token),
                )
            },
            Self::Upstream(fault) => {
                let (status, reason, proxy_error, title) = upstream(*fault);
                let retry_after = (status == S::SERVICE_UNAVAILABLE).then_some(SOON);
                // What we lack ourselves is not said of it.
                let whose = if *fault == Fault::Overloaded { "" } else { "the upstream: " };
                let told = Some(format!("{whose}{fault}{}", cure(*fault)));
                let detail = format!("{title}; bearerd's log says more");
                Row { told, retry_after, ..row(status, reason, proxy_error, title, &detail) }
            }
            // The call may have been taken. UNAVAILABLE, which the mapping has for 504, is what retries are configured for;
            // DEADLINE_EXCEEDED says "even if it was carried out", and no deadline of the app's is left by then.
            Self::Unanswered => Row { code: Some(Code::DeadlineExceeded), ..Self::Upstream(Fault::Timeout).row() },
            Self::BadUpstream(detail) => Row {
                told: Some(format!("the upstream: {detail}")),
                ..row(
                    S::BAD_GATEWAY,
                    Reason::BadUpstream,
                    "http_protocol_error",
                    "The upstream's answer is malformed",
                    detail,
                )
            },
            Self::Internal => Row {
                told: Some("a bug in bearerd: a request panicked; please report it".to_owned()),
                close: true,
                ..row(
                    S::INTERNAL_SERVER_ERROR,
                    Reason::Internal,
                    "proxy_internal_error",
                    "bearerd failed",
                    "a bug in bearerd; please report it",
                )
            },
        }
    }

    /// `ends` if the app's connection ends with this answer.
    pub(super) fn respond(
        &self,
        mut exchange: Exchange,
        manner: Manner,
        ends: bool,
        arrival: &Arrival,
    ) -> Response<Reply> {
        let row = self.row();
        exchange.failed(row.status, row.reason, row.told.as_ref().unwrap_or(&row.detail), arrival);
        let mut response = match manner {
            Manner::Http => {
                let mut response = Response::new(Reply::own(Some(row.problem()), exchange));
                *response.status_mut() = row.status;
                let problem = HeaderValue::from_static("application/problem+json");
                response.headers_mut().insert(header::CONTENT_TYPE, problem);
                response
            }
            Manner::Grpc => {
                let mut response = Response::new(Reply::own(None, exchange));
                let headers = response.headers_mut();
                headers.insert(header::CONTENT_TYPE, grpc::CONTENT_TYPE);
                headers.insert(grpc::STATUS, row.code.unwrap_or(Code::of(row.status)).header());
                headers.insert(grpc::MESSAGE, grpc::message(&format!("bearerd: {}: {}", row.title, row.detail)));
                headers.insert(REASON, HeaderValue::from_static(row.reason.as_str()));
                response
            }
        };
        let headers = response.headers_mut();
        let proxy_status = format!("bearerd; error={}", row.proxy_error);
        let ours = |text: String| HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("bearerd"));
        headers.insert("proxy-status", ours(proxy_status));
        if let Some(wish) = row.retry_after {
            // Rounded up: a second early is another 503.
            let seconds = wish.as_secs() + u64::from(wish.subsec_nanos() > 0);
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(challenge) = row.challenge {
            headers.insert(challenge, CHALLENGE);
        }
        if row.close || ends {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

impl Row {
    /// RFC 9457. The type is a name and leads nowhere: an app tells problems apart by `reason`.
    fn problem(&self) -> Bytes {
        let problem = json!({
            "type": format!("urn:bearerd:problem:{}", self.reason),
            "title": self.title,
            "status": self.status.as_u16(),
            "detail": self.detail,
            "reason": self.reason.as_str(),
        });
        Bytes::from(problem.to_string())
    }
}

/// What to do about it, where the fault does not say so itself.
fn cure(fault: Fault) -> &'static str {
    match fault {
        Fault::Dns => {
            "; is the host in `upstream` spelt right? where only a corporate proxy knows such names, set the route's `proxy`"
        }
        Fault::Refused => {
            "; are host and port in `upstream` right, is it up, and may this machine connect to it? where a corporate \
             proxy leads there, set the route's `proxy`"
        }
        Fault::Tls(TlsFault::Expired) => "; have it renewed, or set this machine's clock (NTP)",
        Fault::Tls(TlsFault::NotYetValid) => "; set this machine's clock (NTP)",
        Fault::Tls(
            TlsFault::UnknownIssuer
            | TlsFault::WrongName
            | TlsFault::BadCertificate
            | TlsFault::Alert
            | TlsFault::NotTls
            | TlsFault::Other,
        )
        | Fault::Reset
        | Fault::Prohibited
        | Fault::Loop
        | Fault::Busy
        | Fault::Proxy(_)
        | Fault::Overloaded
        | Fault::Protocol
        | Fault::Version
        | Fault::Timeout
        | Fault::Other => "",
    }
}

fn upstream(fault: Fault) -> (StatusCode, Reason, &'static str, &'static str) {
    use StatusCode as S;
    match fault {
        Fault::Prohibited => (
            S::BAD_GATEWAY,
            Reason::UpstreamDns,
            "destination_ip_prohibited",
            "The upstream's name leads to an address that is not for it",
        ),
        Fault::Loop => {
            (S::LOOP_DETECTED, Reason::Loop, "proxy_loop_detected", "The upstream leads back to this bearerd")
        }
        Fault::Overloaded => {
            (S::SERVICE_UNAVAILABLE, Reason::Overloaded, "connection_limit_reached", "Too many connections are open")
        }
        Fault::Proxy(_) => (
            S::BAD_GATEWAY,
            Reason::UpstreamRefused,
            "destination_unavailable",
            "The proxy on the way to the upstream does not lead there",
        ),
        Fault::Busy => (
            S::SERVICE_UNAVAILABLE,
            Reason::Overloaded,
            "connection_limit_reached",
            "The upstream takes no more requests for now",
        ),
        Fault::Dns => (S::BAD_GATEWAY, Reason::UpstreamDns, "dns_error", "The upstream's name has no address"),
        Fault::Refused => {
            (S::BAD_GATEWAY, Reason::UpstreamRefused, "connection_refused", "The upstream refused the connection")
        }
        Fault::Reset | Fault::Other => {
            (S::BAD_GATEWAY, Reason::UpstreamReset, "connection_terminated", "The upstream ended the connection")
        }
        Fault::Tls(_) => (S::BAD_GATEWAY, Reason::UpstreamTls, "tls_protocol_error", "TLS with the upstream failed"),
        Fault::Protocol => {
            (S::BAD_GATEWAY, Reason::BadUpstream, "http_protocol_error", "The upstream's answer is malformed")
        }
        Fault::Version => (
            S::BAD_GATEWAY,
            Reason::BadUpstream,
            "http_protocol_error",
            "The upstream does not speak the version of HTTP that it is asked for",
        ),
        Fault::Timeout => {
            (S::GATEWAY_TIMEOUT, Reason::UpstreamTimeout, "http_response_timeout", "The upstream took too long")
        }
    }
}

impl From<FormError> for Failure {
    fn from(error: FormError) -> Self {
        match error {
            FormError::BadRequest(detail) => Self::BadRequest(detail),
            FormError::AmbiguousHost(detail) => Self::AmbiguousHost(detail),
            FormError::BadPath(detail) => Self::BadPath(detail),
        }
    }
}

impl Failure {
    /// What a refusal of this target is to the app.
    pub(super) fn refused(refusal: Refusal, target: &Target) -> Self {
        match refusal {
            Refusal::HostNotOurs => Self::HostNotOurs,
            Refusal::WebOrigin => Self::WebOrigin,
            Refusal::OwnCredential => Self::OwnCredential,
            Refusal::CallerUnknown => Self::CallerUnknown { header: credential_header(target.form()) },
            Refusal::NotAllowed(detail) => Self::NotAllowed(detail),
            Refusal::NoRoute => Self::NoRoute,
            Refusal::Foreign => Self::Foreign,
            Refusal::NoTunnel(detail) => Self::NoTunnel(detail),
            Refusal::BadPath(detail) => Self::BadPath(detail),
        }
    }
}

impl From<NoToken> for Failure {
    fn from(missing: NoToken) -> Self {
        Self::NoToken(missing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A text that is broken off in the source has no indentation in it.
    #[test]
    fn what_is_told_is_one_sentence_without_gaps() {
        let missing = NoToken { token: "main".into(), retry_after: SOON };
        for failure in [
            Failure::BadRequest("it is malformed"),
            Failure::AmbiguousHost("two of them"),
            Failure::BadPath("dots"),
            Failure::HostNotOurs,
            Failure::WebOrigin,
            Failure::OwnCredential,
            Failure::CallerUnknown { header: header::AUTHORIZATION },
            Failure::CallerUnknown { header: header::PROXY_AUTHORIZATION },
            Failure::NotAllowed("no rule"),
            Failure::NoRoute,
            Failure::Foreign,
            Failure::NoTunnel("no tunnel"),
            Failure::NoToken(missing),
            Failure::Upstream(Fault::Overloaded),
            Failure::Upstream(Fault::Loop),
            Failure::Unanswered,
            Failure::BadUpstream("no HTTP"),
            Failure::Overloaded(Full::Queue),
            Failure::Overloaded(Full::Late),
            Failure::Internal,
        ] {
            let row = failure.row();
            for text in [Some(row.title), Some(&*row.detail), row.told.as_deref()].into_iter().flatten() {
                assert!(!text.contains("  ") && !text.contains('\n'), "{text:?}");
            }
        }
    }
}
