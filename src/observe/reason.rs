//! The words for why bearerd answered a request itself, or turned a connection away: one word for the response, the log
//! and the metrics.

use std::fmt;

/// Why an app got bearerd's own answer instead of the API's, or none at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    BadRequest,
    AmbiguousHost,
    BadPath,
    /// A connection or a request of somebody whom nobody let in.
    CallerUnknown,
    /// A TLS handshake of an app that did not come to its end; there is nobody to answer.
    AppTls,
    NoRoute,
    NotAllowed,
    WebOrigin,
    OwnCredential,
    HostNotOurs,
    NoToken,
    Overloaded,
    Draining,
    UpstreamRefused,
    UpstreamReset,
    UpstreamTls,
    UpstreamDns,
    BadUpstream,
    UpstreamTimeout,
    Loop,
    Internal,
}

impl Reason {
    pub const ALL: [Self; 21] = [
        Self::BadRequest,
        Self::AmbiguousHost,
        Self::BadPath,
        Self::CallerUnknown,
        Self::AppTls,
        Self::NoRoute,
        Self::NotAllowed,
        Self::WebOrigin,
        Self::OwnCredential,
        Self::HostNotOurs,
        Self::NoToken,
        Self::Overloaded,
        Self::Draining,
        Self::UpstreamRefused,
        Self::UpstreamReset,
        Self::UpstreamTls,
        Self::UpstreamDns,
        Self::BadUpstream,
        Self::UpstreamTimeout,
        Self::Loop,
        Self::Internal,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::AmbiguousHost => "ambiguous_host",
            Self::BadPath => "bad_path",
            Self::CallerUnknown => "caller_unknown",
            Self::AppTls => "app_tls",
            Self::NoRoute => "no_route",
            Self::NotAllowed => "not_allowed",
            Self::WebOrigin => "web_origin",
            Self::OwnCredential => "own_credential",
            Self::HostNotOurs => "host_not_ours",
            Self::NoToken => "no_token",
            Self::Overloaded => "overloaded",
            Self::Draining => "draining",
            Self::UpstreamRefused => "upstream_refused",
            Self::UpstreamReset => "upstream_reset",
            Self::UpstreamTls => "upstream_tls",
            Self::UpstreamDns => "upstream_dns",
            Self::BadUpstream => "bad_upstream",
            Self::UpstreamTimeout => "upstream_timeout",
            Self::Loop => "loop",
            Self::Internal => "internal",
        }
    }
}

impl Reason {
    /// Who has to do something about it: `app`, `upstream`, `provider`; `bearerd` for itself and its configuration;
    /// `load` where more is asked than a limit allows.
    pub fn whose(self) -> &'static str {
        match self {
            Self::BadRequest
            | Self::AmbiguousHost
            | Self::BadPath
            | Self::CallerUnknown
            | Self::AppTls
            | Self::NoRoute
            | Self::NotAllowed
            | Self::WebOrigin
            | Self::OwnCredential
            | Self::HostNotOurs => "app",
            Self::NoToken => "provider",
            Self::Overloaded => "load",
            Self::UpstreamRefused
            | Self::UpstreamReset
            | Self::UpstreamTls
            | Self::UpstreamDns
            | Self::BadUpstream
            | Self::UpstreamTimeout => "upstream",
            Self::Draining | Self::Loop | Self::Internal => "bearerd",
        }
    }

    /// The upstream did not do its part.
    pub(super) fn is_upstreams(self) -> bool {
        self.whose() == "upstream"
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
