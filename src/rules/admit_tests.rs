//! Which route a request gets, and which it does not.

use std::time::Duration;

use http::{HeaderName, Request};

use super::*;
use crate::observe::Observer;
use crate::observe::log::{Format, Level, Log, LogSettings};
use crate::rules::settings::{Callers, ClientSettings, InFlight, Inject, Match, Timeouts, Upstream};
use crate::tls::{Protocols, TlsSettings};
use crate::wire::authority::Authority;

/// `(name, listener, match.host, match.path, upstream)`
pub(in crate::rules) type Row<'a> = (&'a str, Option<usize>, Option<&'a str>, Option<&'a str>, &'a str);

pub(in crate::rules) fn settings((name, _, host, path, upstream): Row<'_>) -> RouteSettings {
    let (https, rest) = match upstream.strip_prefix("https://") {
        Some(rest) => (true, rest),
        None => (false, upstream.strip_prefix("http://").unwrap()),
    };
    let (authority, base) = rest.split_once('/').map_or((rest, String::new()), |(a, b)| (a, format!("/{b}")));
    let second = Duration::from_secs(1);
    RouteSettings {
        name: name.into(),
        matching: Match { listen: None, host: host.map(|host| Host::parse(host).unwrap()), path: path.map(Into::into) },
        upstream: Upstream { https, authority: Authority::parse(authority).unwrap(), base_path: base.into() },
        connect_to: None,
        strip_prefix: false,
        token: None,
        inject: Inject { header: header::AUTHORIZATION, scheme: "Bearer".into() },
        headers: Vec::new(),
        authorization: OnAuthorization::Replace,
        allow: Vec::new(),
        callers: Vec::new(),
        renew_on: None,
        tls: TlsSettings::default(),
        intercept: false,
        stub_token: None,
        proxy: None,
        http: Protocols::Http1,
        warm: 0,
        via: false,
        limits: InFlight { in_flight: 1, queue: 0, queue_wait: second },
        timeouts: Timeouts { connect: second, headers: second, body_idle: second, pool_idle: second, max_age: second },
    }
}

pub(in crate::rules) fn observer() -> Observer {
    Observer::new(Log::to(LogSettings { level: Level::Error, format: Format::Pretty }, |_| {}))
}

fn routes(rows: &[Row<'_>], change: impl Fn(&mut RouteSettings)) -> Routes {
    routes_for(&[], rows, change)
}

/// The same, for named clients.
pub(in crate::rules) fn routes_for(
    clients: &[ClientSettings],
    rows: &[Row<'_>],
    change: impl Fn(&mut RouteSettings),
) -> Routes {
    let observer = observer();
    let compiled = rows.iter().map(|row| {
        let mut settings = settings(*row);
        change(&mut settings);
        let (metrics, gate) = (observer.route(&settings.name), Gate::new(settings.limits));
        let host = HeaderValue::from_str(&settings.upstream.authority.to_string()).unwrap();
        let id = RouteId::unique();
        (Arc::new(Route { id, settings, token: None, metrics, gate, host }), row.1)
    });
    let hosts = rows.iter().map(|row| settings(*row).upstream.authority.host);
    Routes::new(compiled.collect(), Guards::new(&Callers::default(), hosts), Arc::new(Clients::new(clients)))
}

fn admit_by(
    routes: &Routes,
    listener: usize,
    method: &str,
    uri: &str,
    headers: &[(&'static str, &'static str)],
) -> Result<(String, String), Refusal> {
    let mut builder = Request::builder().method(method).uri(uri);
    for (name, value) in headers {
        builder = builder.header(HeaderName::from_static(name), *value);
    }
    let (head, ()) = builder.body(()).unwrap().into_parts();
    let target = Target::of(&head).unwrap();
    let arrival = Arrival { listener, ..Arrival::default() };
    let caller = routes.clients().name(&arrival, &head.headers, target.form());
    routes
        .admit(&target, &head.method, &head.headers, &arrival, caller.as_ref())
        .map(|admission| match admission {
            Admission::Forward(admitted) => (admitted.route().settings.name.to_string(), admitted.path().to_string()),
            Admission::StubToken(route) => (route.settings.name.to_string(), "a placeholder".to_owned()),
        })
        .map_err(|(refusal, _)| refusal)
}

fn admit(routes: &Routes, uri: &str, host: &'static str) -> Result<(String, String), Refusal> {
    admit_by(routes, 0, "GET", uri, &[("host", host)])
}

fn to(name: &str, path: &str) -> Result<(String, String), Refusal> {
    Ok((name.into(), path.into()))
}

#[test]
fn a_route_without_match_takes_everything_and_the_base_goes_in_front() {
    let routes = routes(&[("api", None, None, None, "https://api.example.com/base")], |_| {});
    for (uri, path) in [
        ("/", "/base/"),
        ("/a?b=c", "/base/a?b=c"),
        ("/a%20%C3%BC;x/?", "/base/a%20%C3%BC;x/?"),
        ("//a//b", "/base//a//b"),
    ] {
        assert_eq!(admit(&routes, uri, "localhost:4280"), to("api", path), "{uri}");
    }
}

#[test]
fn strip_prefix_takes_off_exactly_what_matched() {
    let strip = |settings: &mut RouteSettings| settings.strip_prefix = true;
    let based = routes(&[("api", None, None, Some("/v2"), "https://api.example.com/base")], strip);
    let bare = routes(&[("api", None, None, Some("/v2"), "https://api.example.com")], strip);
    for (uri, with_base, without) in
        [("/v2", "/base", "/"), ("/v2/", "/base/", "/"), ("/v2?q", "/base?q", "/?q"), ("/v2/x?q", "/base/x?q", "/x?q")]
    {
        assert_eq!(admit(&based, uri, "localhost"), to("api", with_base), "{uri}");
        assert_eq!(admit(&bare, uri, "localhost"), to("api", without), "{uri}");
    }
    assert_eq!(admit(&bare, "/v22", "localhost"), Err(Refusal::NoRoute));
}

#[test]
fn host_and_listener_and_the_longest_path_decide() {
    let routes = routes(
        &[
            ("rest", None, None, None, "https://rest.example"),
            ("v2", None, None, Some("/v2"), "https://v2.example"),
            ("named", None, Some("named.example"), None, "https://named.example"),
            ("legacy", Some(1), None, None, "https://legacy.example"),
        ],
        |_| {},
    );
    assert_eq!(admit(&routes, "/v2/x", "localhost"), to("v2", "/v2/x"));
    assert_eq!(admit(&routes, "/v3", "localhost"), to("rest", "/v3"));
    assert_eq!(admit(&routes, "/v2/x", "named.example:4280"), to("named", "/v2/x"));
    assert_eq!(admit_by(&routes, 1, "GET", "/v2/x", &[("host", "localhost")]), to("legacy", "/v2/x"));
}

#[test]
fn absolute_form_is_a_url_of_the_upstream() {
    let routes = routes(
        &[
            ("api", None, None, Some("/local"), "https://api.example.com/base"),
            ("deep", None, None, Some("/deep"), "https://api.example.com/base/deep"),
            ("odd", None, None, Some("/odd"), "https://api.example.com:8443"),
            ("plain", None, None, Some("/plain"), "http://127.0.0.1:8080"),
        ],
        |_| {},
    );
    let get = |uri: &str| admit_by(&routes, 0, "GET", uri, &[("host", host_of(uri))]);
    for (uri, name, path) in [
        ("http://api.example.com/base/x?q", "api", "/base/x?q"),
        ("http://api.example.com:80/base", "api", "/base"),
        ("http://api.example.com:443/base", "api", "/base"),
        ("https://API.example.com./base/x", "api", "/base/x"),
        ("http://api.example.com/base/deep/x", "deep", "/base/deep/x"),
        ("http://api.example.com:8443/any", "odd", "/any"),
        ("http://127.0.0.1:8080/any", "plain", "/any"),
    ] {
        assert_eq!(get(uri), to(name, path), "{uri}");
    }
    for uri in [
        "http://api.example.com/other",
        "http://api.example.com/local",
        "http://api.example.com/based",
        "http://api.example.com:8080/base",
        "http://evil.example/base",
        "http://127.0.0.1/",
        "http://localhost:8080/",
        "http://169.254.169.254/latest/meta-data/",
    ] {
        assert_eq!(get(uri), Err(Refusal::Foreign), "{uri}");
    }
}

#[test]
fn what_a_route_reaches_is_its_own_in_both_forms() {
    let rows = [
        ("all", None, None, None, "https://api.example.com"),
        ("admin", None, None, Some("/admin"), "https://api.example.com"),
        ("other", None, None, Some("/other"), "https://other.example.com/base"),
    ];
    let get = |routes: &Routes, uri: &str| admit_by(routes, 0, "GET", uri, &[("host", host_of(uri))]);
    for only in ["", "admin"] {
        let routes = routes(&rows, |settings| {
            if &*settings.name == only {
                settings.callers = vec!["ops".into()];
            }
        });
        let admin = if only.is_empty() { to("admin", "/admin/x") } else { Err(Refusal::CallerUnknown) };
        assert_eq!(admit(&routes, "/admin/x", "localhost"), admin);
        assert_eq!(get(&routes, "http://api.example.com/admin/x"), admin);
        assert_eq!(get(&routes, "https://api.example.com:443/admin/x"), admin);
        assert_eq!(get(&routes, "http://api.example.com/x"), to("all", "/x"));
        assert_eq!(get(&routes, "http://other.example.com/base/x"), to("other", "/base/x"), "the rest is the first's");
    }
    let routes = routes(&rows[1..], |settings| settings.callers = vec!["ops".into()]);
    assert_eq!(get(&routes, "http://api.example.com/x"), Err(Refusal::Foreign), "and nobody's beside a restriction");
    assert_eq!(get(&routes, "http://other.example.com/base/x"), Err(Refusal::Foreign));
}

#[test]
fn who_asks_for_tls_does_not_get_it_in_clear() {
    let routes = routes(&[("plain", None, None, None, "http://127.0.0.1:8080")], |_| {});
    let get = |uri: &str| admit_by(&routes, 0, "GET", uri, &[("host", "127.0.0.1:8080")]);
    assert_eq!(get("http://127.0.0.1:8080/x"), to("plain", "/x"));
    assert_eq!(get("https://127.0.0.1:8080/x"), Err(Refusal::Foreign));
}

/// The Host that an honest client sends with an absolute URL.
fn host_of(uri: &str) -> &'static str {
    let rest = uri.split_once("://").unwrap().1;
    String::leak(rest.split_once('/').unwrap().0.to_owned())
}

#[test]
fn a_foreign_host_or_page_or_method_is_refused_before_any_route() {
    let routes = routes(&[("api", None, None, None, "https://api.example.com")], |_| {});
    assert_eq!(admit(&routes, "/", "rebind.attacker.test"), Err(Refusal::HostNotOurs));
    assert_eq!(admit(&routes, "/", "api.example.com"), to("api", "/"));
    let page = [("host", "localhost"), ("origin", "https://evil.example")];
    assert_eq!(admit_by(&routes, 0, "POST", "/", &page), Err(Refusal::WebOrigin));
    assert_eq!(
        admit_by(&routes, 0, "TRACE", "/", &[("host", "localhost")]),
        Err(Refusal::NotAllowed("TRACE would read the token back to whoever asks"))
    );
}

#[test]
fn an_own_credential_is_refused_where_it_is_not_replaced() {
    let reject = |settings: &mut RouteSettings| settings.authorization = OnAuthorization::Reject;
    let routes = routes(&[("api", None, None, None, "https://api.example.com")], reject);
    let own = [("host", "localhost"), ("authorization", "Basic x")];
    assert_eq!(admit_by(&routes, 0, "GET", "/", &own), Err(Refusal::OwnCredential));
    assert_eq!(admit(&routes, "/", "localhost"), to("api", "/"));
}

/// By the path as the app writes it, on the route's own listener and host, and nowhere else.
#[test]
fn a_placeholder_is_where_the_app_asks_for_a_token() {
    let rows = [
        ("api", None, None, Some("/api"), "https://api.example.com/base"),
        ("other", Some(1), None, Some("/other"), "https://other.example:8443"),
        ("named", None, Some("named.localhost"), None, "http://localhost:9"),
    ];
    let routes = routes(&rows, |settings| {
        settings.strip_prefix = settings.matching.path.is_some();
        settings.stub_token = Some(if &*settings.name == "other" { "/token/" } else { "/oauth2/token" }.into());
    });
    let local = [("host", "localhost")];
    let upstream = [("host", "api.example.com")];
    for (listener, method, uri, headers, expected) in [
        (0, "POST", "/oauth2/token", &local[..], Ok(("api", "a placeholder"))),
        (0, "POST", "/oauth2/token?x", &local, Ok(("api", "a placeholder"))),
        (0, "POST", "/oauth2/token/", &local, Err(Refusal::NoRoute)),
        (0, "POST", "/oauth2/tokens", &local, Err(Refusal::NoRoute)),
        (0, "POST", "/api/oauth2/token", &local, Ok(("api", "/base/oauth2/token"))),
        (0, "GET", "/oauth2/token", &local, Err(Refusal::NoRoute)),
        (0, "POST", "/oauth2/token", &[("host", "named.localhost")], Ok(("named", "a placeholder"))),
        (0, "GET", "/oauth2/token", &[("host", "named.localhost")], Ok(("named", "/oauth2/token"))),
        (0, "POST", "/token/", &local, Err(Refusal::NoRoute)),
        (1, "POST", "/token/", &local, Ok(("other", "a placeholder"))),
        (1, "POST", "/oauth2/token", &local, Ok(("api", "a placeholder"))),
        (0, "POST", "http://api.example.com/oauth2/token", &upstream, Ok(("api", "a placeholder"))),
        (0, "POST", "https://api.example.com/oauth2/token", &upstream, Ok(("api", "a placeholder"))),
        (0, "POST", "http://api.example.com/base/oauth2/token", &upstream, Ok(("api", "/base/oauth2/token"))),
        (0, "POST", "http://api.example.com:81/oauth2/token", &[("host", "api.example.com:81")], Err(Refusal::Foreign)),
        (0, "POST", "/oauth2/token", &[("host", "evil.example")], Err(Refusal::HostNotOurs)),
        (0, "POST", "/oauth2/token", &[("host", "localhost"), ("origin", "null")], Err(Refusal::WebOrigin)),
    ] {
        let expected = expected.map(|(route, path): (&str, &str)| (route.to_owned(), path.to_owned()));
        assert_eq!(
            admit_by(&routes, listener, method, uri, headers),
            expected,
            "{listener} {method} {uri} {headers:?}"
        );
    }
}
