//! A route's upstream: the way there, and one request with the route's token that is to change nothing.
//!
//! A GET, as apps make it: gateways choose by method, and many answer HEAD or OPTIONS without looking at the token. Its
//! path is what the route reaches, or one that `allow` names; its answer's body is not read.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::response::Parts;
use http::{HeaderMap, Method, StatusCode, Version, header};

use super::report::{Begun, Blame, begin, shown, spell};
use super::token::Granted;
use super::way::{self, Place};
use super::{Failed, Round, clock};
use crate::outbound::{AddressGuard, Destinations};
use crate::rules::{RouteId, RouteSettings};
use crate::secret::Secret;
use crate::wire::authority::Authority;
use crate::wire::challenge::{Item, items};
use crate::wire::fault::{Fault, TlsFault};

/// An API that thinks for longer about its base path is not looked at any further; its own `timeouts` may be minutes.
const ANSWER: Duration = Duration::from_secs(15);

pub(super) async fn look(
    round: &mut Round<'_>,
    routes: &[RouteSettings],
    granted: &BTreeMap<Arc<str>, Result<Granted, Blame>>,
    guard: AddressGuard,
) -> Result<(), Failed> {
    let mut destinations = Destinations::default();
    let ids: Vec<_> = routes.iter().map(|_| RouteId::unique()).collect();
    for (id, route) in ids.iter().zip(routes) {
        destinations.add(*id, route, &round.configs)?;
    }
    let destinations = destinations.guarded_by(guard);
    for (id, route) in ids.iter().zip(routes) {
        one(round, &destinations, (*id, route), granted).await;
    }
    Ok(())
}

async fn one(
    round: &mut Round<'_>,
    destinations: &Destinations,
    (id, route): (RouteId, &RouteSettings),
    granted: &BTreeMap<Arc<str>, Result<Granted, Blame>>,
) {
    let whose = format!("route {}", route.name);
    if round.is_over("upstream", &whose) {
        return;
    }
    let to = Authority { host: route.upstream.authority.host.clone(), port: Some(route.upstream.port()) };
    let Some(probe) = destinations.probe(id) else { return };
    let place = Place { whose: whose.clone(), to, https: route.upstream.https, tls: &route.tls, probe };
    if let Err(blame) = way::go(round, &place).await {
        return round.report.skip("upstream", whose, &blame);
    }
    let token = match route.token.as_ref().and_then(|token| granted.get(token)) {
        Some(Ok(granted)) => Some(granted),
        Some(Err(blame)) => return round.report.skip("upstream", whose, blame),
        None if route.token.is_some() => {
            return round.report.leave(begin("upstream", whose), "not asked: there is no token for it");
        }
        None => None,
    };
    let Some((method, path)) = route.harmless() else {
        let why = "not asked: no rule of `allow` names a path without wildcards for GET or HEAD";
        return round.report.leave(begin("upstream", whose), why);
    };
    let begun = begin("upstream", format!("{whose}, {method} {}", path.path()));
    let from = SystemTime::now();
    let limit = round.limit(ANSWER);
    let asking = destinations.ask((id, route), (method.clone(), path), token.map(|granted| &granted.token));
    match tokio::time::timeout(limit, asking).await.unwrap_or(Err(Fault::Timeout)) {
        Ok((head, version)) => {
            let date =
                head.headers.get(header::DATE).and_then(|date| httpdate::parse_http_date(date.to_str().ok()?).ok());
            judge(round, begun, &Asked { route, token, method, head: &head, version });
            clock::tell(round.report, &whose, date, from);
        }
        Err(fault) => {
            let (what, cure) = no_answer(fault, route, limit);
            round.report.fail(begun, what, cure);
        }
    }
}

/// What was asked, and what came back.
struct Asked<'a> {
    route: &'a RouteSettings,
    token: Option<&'a Granted>,
    method: Method,
    head: &'a Parts,
    version: Version,
}

fn judge(round: &mut Round<'_>, begun: Begun, asked: &Asked<'_>) {
    let Asked { route, token, method, head, version } = asked;
    let (status, report) = (head.status, &mut *round.report);
    let http = if *version == Version::HTTP_2 { "HTTP/2" } else { "HTTP/1.1" };
    let answered = format!("the API answers {} by {http}", status.as_u16());
    let challenge = Challenge::of(&head.headers, token.map(|token| &token.token));
    let says = token.and_then(|token| token.says.as_deref());
    let says =
        says.map_or_else(|| "it is opaque, so the API has to ask the provider about it".to_owned(), str::to_owned);
    match status {
        StatusCode::UNAUTHORIZED if token.is_none() => {
            let cure = "name a token in the route's `token`, or set the header that it wants in `headers`";
            report.warn(begun, format!("{answered}: it wants a credential, and the route has `token: none`"), cure);
        }
        StatusCode::UNAUTHORIZED => {
            let (what, cure) = refused(&challenge, route, token.is_some_and(|token| token.bound), &says);
            report.fail(begun, format!("{answered}: {what}"), cure);
        }
        StatusCode::FORBIDDEN if challenge.is("insufficient_scope") => {
            let wanted = challenge.scope.as_ref().map_or_else(
                || "another scope; its manual says which".to_owned(),
                |scope| format!("the scope {}", shown(scope)),
            );
            let cure = "add it to the token's `scope`, and have it allowed for this client at the provider";
            report.fail(begun, format!("{answered}: it takes the token, and wants {wanted}"), cure);
        }
        StatusCode::FORBIDDEN => {
            let cure = "the token is known and may not do this: a role or a scope of the client, an address that has to be \
                        let in, or a gateway that wants a key of its own (`headers`). If apps are served, this path is \
                        just not theirs";
            report.warn(begun, format!("{answered} to {method}: it does not allow this"), cure);
        }
        StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
            let cure = "something on the way is a proxy that wants to know who asks: name it in the route's `proxy`, with \
                        name and password";
            report.fail(begun, format!("{answered}: a proxy wants a name"), cure);
        }
        StatusCode::TOO_MANY_REQUESTS => {
            report.warn(
                begun,
                format!("{answered}: it limits requests"),
                "wait; `limits.in_flight` asks for less at once",
            );
        }
        status if status.is_server_error() => {
            let cure = "the API or what is before it is in trouble, whatever the token is: ask whoever runs it";
            report.warn(begun, answered, cure);
        }
        status if status.is_client_error() => {
            let none = if token.is_some() { ", which says nothing against the token" } else { "" };
            report.ok(begun, format!("{answered}{none}"));
        }
        _ if token.is_some() => report.ok(begun, format!("{answered} to the token")),
        _ => report.ok(begun, answered),
    }
}

/// Why an API does not take the token, and what to do.
fn refused(challenge: &Challenge, route: &RouteSettings, bound: bool, says: &str) -> (String, String) {
    let described = challenge.description.as_ref().map(|text| format!(" ({})", shown(text))).unwrap_or_default();
    if bound && route.tls.identity.is_none() {
        return (
            format!("it does not take the token{described}, which is bound to a client certificate"),
            "show the same certificate to the API: `tls: {cert_file: …, key_file: …}` of the route".to_owned(),
        );
    }
    match challenge.error.as_deref() {
        Some("invalid_token") => (
            format!("it does not take the token: invalid_token{described}"),
            format!("does the API expect this issuer and this audience? Of the token: {says}. Is its clock right?"),
        ),
        Some("insufficient_scope") => {
            let scope = challenge.scope.as_ref().map_or_else(String::new, |scope| format!(": {}", shown(scope)));
            (
                format!("it takes the token, and wants another scope{scope}"),
                "add it to the token's `scope`, and have it allowed for this client at the provider".to_owned(),
            )
        }
        _ if challenge.basic_alone => (
            "it wants a name and a password (Basic), and no token".to_owned(),
            "does it take OAuth tokens at this URL at all? If so, its manual names the path or the header".to_owned(),
        ),
        _ => {
            let header = &route.inject.header;
            let scheme = &route.inject.scheme;
            let sent = match (header == header::AUTHORIZATION, scheme.is_empty()) {
                (true, false) => format!("`Authorization: {scheme} …`"),
                (_, _) => format!("`{header}: {scheme}…`"),
            };
            (
                format!("it does not take the token, and does not say why{described}"),
                format!(
                    "does the API expect this issuer and this audience? Of the token: {says}. It was sent as {sent}; \
                     `inject` says otherwise"
                ),
            )
        }
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "what has no cure of its own has no arm of its own")]
fn no_answer(fault: Fault, route: &RouteSettings, limit: Duration) -> (String, String) {
    match fault {
        Fault::Timeout => (
            format!("no answer within {}", spell(limit)),
            "the API takes connections and does not answer: ask whoever runs it".to_owned(),
        ),
        Fault::Tls(TlsFault::Alert) => (
            "it ends the connection, most likely for want of a client certificate".to_owned(),
            format!("name it in `tls: {{cert_file: …, key_file: …}}` of route {}", route.name),
        ),
        Fault::Version => (
            "it speaks none of the versions of HTTP that `http` allows".to_owned(),
            "leave `http` out, and what it offers is taken".to_owned(),
        ),
        Fault::Protocol | Fault::Reset if !route.upstream.https => (
            format!("{fault}; is it a port for TLS?"),
            "write `https://` in `upstream` if the port speaks TLS".to_owned(),
        ),
        fault => (fault.to_string(), "try again; if it stays so, ask whoever runs the API".to_owned()),
    }
}

/// What WWW-Authenticate says (RFC 6750, 3).
#[derive(Debug, Default)]
struct Challenge {
    error: Option<String>,
    description: Option<String>,
    scope: Option<String>,
    /// Basic is all that it wants.
    basic_alone: bool,
}

impl Challenge {
    /// `token` is what the request carried: an API may repeat it.
    fn of(headers: &HeaderMap, token: Option<&Secret<String>>) -> Self {
        let (mut found, mut basic, mut other) = (Self::default(), false, false);
        for line in headers.get_all(header::WWW_AUTHENTICATE) {
            for item in items(&String::from_utf8_lossy(line.as_bytes())) {
                match item {
                    Item::Scheme(scheme) if scheme.eq_ignore_ascii_case("basic") => basic = true,
                    Item::Scheme(_) => other = true,
                    Item::Parameter(name, value) => {
                        let place = match name.to_ascii_lowercase().as_str() {
                            "error" => &mut found.error,
                            "error_description" => &mut found.description,
                            "scope" => &mut found.scope,
                            _ => continue,
                        };
                        place.get_or_insert_with(|| match token {
                            Some(token) => without(value, token.expose()),
                            None => value.to_owned(),
                        });
                    }
                }
            }
        }
        Self { basic_alone: basic && !other, ..found }
    }

    fn is(&self, error: &str) -> bool {
        self.error.as_deref().is_some_and(|one| one.eq_ignore_ascii_case(error))
    }
}

/// The beginning of a text, without the token or pieces of it: "the token eyJ… has expired" is what some APIs say, and what
/// doctor prints is sent around.
fn without(text: &str, token: &str) -> String {
    /// No more than this is shown anyway.
    const MOST: usize = 300;
    /// Shorter pieces are words, and give nothing away.
    const PIECE: usize = 12;
    let text: Vec<char> = text.chars().take(MOST).collect();
    let is_its = |piece: &[char]| token.contains(&piece.iter().collect::<String>());
    let piece = PIECE.min(token.chars().count()).max(1);
    let (mut told, mut rest) = (String::new(), &text[..]);
    while let Some((first, behind)) = rest.split_first() {
        if rest.len() < piece || !is_its(&rest[..piece]) {
            told.push(*first);
            rest = behind;
            continue;
        }
        let end = (piece..=rest.len()).take_while(|end| is_its(&rest[..*end])).last().unwrap_or(piece);
        told.push_str("[token]");
        rest = &rest[end..];
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_an_api_repeats_is_left_out_and_so_is_a_part_of_it() {
        const TOKEN: &str = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJhIn0.c2lnbmF0dXJl";
        for (text, expected) in [
            ("no audience", "no audience"),
            (TOKEN, "[token]"),
            (&format!("the token {TOKEN} has expired"), "the token [token] has expired"),
            (&format!("t={}, cut", &TOKEN[..20]), "t=[token], cut"),
            (&format!("{}...{}", &TOKEN[..14], &TOKEN[30..]), "[token]...[token]"),
            (&format!("\u{e9}{TOKEN}\u{e9}"), "\u{e9}[token]\u{e9}"),
            ("https://graph.example.com/User.Read", "https://graph.example.com/User.Read"),
        ] {
            assert_eq!(without(text, TOKEN), expected);
        }
        assert_eq!(without("the token s3 is old", "s3"), "the token [token] is old");
        assert_eq!(without(&"x".repeat(100_000), TOKEN).len(), 300);
        assert_eq!(without("", "") + &without("a", ""), "a");
    }
}
