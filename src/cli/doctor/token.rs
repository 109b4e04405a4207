//! A token's provider: the way there, and one token request for each credential, those that stand by included.
//!
//! Nothing of a token is shown but its fingerprint and what concerns the configuration. To a client it is opaque
//! (RFC 9068, 6): what a JWT says is a hint and refuses nothing.

use std::time::{Duration, SystemTime};

use serde_json::Value;
use url::Url;

use super::report::{Blame, begin, shown, spell};
use super::way::{self, Place};
use super::{Failed, Round, clock, discovery};
use crate::outbound::Probe;
use crate::secret::Secret;
use crate::tls::TlsSettings;
use crate::token::Settings;
use crate::token::grant::{Grant, What, left_out};
use crate::token::settings::{Endpoint, Proof};
use crate::token::source::{Source as _, TokenEndpoint};
use crate::wire::authority::{Authority, Host};

/// A token that was granted.
pub(super) struct Granted {
    pub(super) token: Secret<String>,
    /// Whom it is for and who issued it, as it says itself; for what to say where an API does not take it.
    pub(super) says: Option<String>,
    /// It is bound to the client certificate that it was asked for with (RFC 8705, 3.1).
    pub(super) bound: bool,
}

/// A clock that is a little behind another's makes tokens from the future.
const SLACK: Duration = Duration::from_secs(5);

/// Two that say of the same life what it is differ by roundings, and by what a provider leaves for the way.
const ROUNDING: Duration = Duration::from_secs(60);

pub(super) async fn look(round: &mut Round<'_>, settings: Settings) -> Result<Result<Granted, Blame>, Failed> {
    let whose = format!("token {}", settings.name);
    let endpoint = TokenEndpoint::new(settings, &round.configs)?;
    let settings = endpoint.settings();
    let first = match &settings.endpoint {
        Endpoint::Issuer(issuer) | Endpoint::Both { issuer, .. } => Url::parse(issuer).ok(),
        Endpoint::TokenUrl(url) => Some(url.clone()),
    };
    let skip = |round: &mut Round<'_>, with_discovery: bool, blame: Blame| {
        if with_discovery && settings.endpoint.issuer().is_some() {
            round.report.skip("discovery", whose.as_str(), &blame);
        }
        for credential in &settings.credentials {
            round.report.skip("token", format!("{whose}, {}", credential.client_id), &blame);
        }
        Ok(Err(blame))
    };
    if let Some(url) = &first
        && let Err(blame) = reach(round, settings, &whose, url).await
    {
        // Where the issuer is away and the token URL written, that is asked all the same.
        match &settings.endpoint {
            Endpoint::Both { token_url, .. } if token_url.origin() != url.origin() => {
                round.report.skip("discovery", whose.as_str(), &blame);
                if let Err(blame) = reach(round, settings, &whose, token_url).await {
                    return skip(round, false, blame);
                }
            }
            Endpoint::Issuer(_) | Endpoint::TokenUrl(_) | Endpoint::Both { .. } => return skip(round, true, blame),
        }
    } else {
        let url = match discovery::look(round, &endpoint).await {
            Ok(url) => url,
            Err(blame) => return skip(round, false, blame),
        };
        if first.as_ref().is_none_or(|first| first.origin() != url.origin())
            && let Err(blame) = reach(round, settings, &whose, &url).await
        {
            return skip(round, false, blame);
        }
    }
    let mut outcome = None;
    for index in 0..settings.credentials.len() {
        let asked = ask(round, &endpoint, index, outcome.is_none()).await;
        outcome = match (outcome, asked) {
            (Some(Ok(granted)), _) => Some(Ok(granted)),
            (Some(Err(_)) | None, asked) => Some(asked),
        };
    }
    // The configuration gives every token a credential.
    outcome.ok_or_else(|| Failed::Because(format!("a bug in bearerd: {whose} has no credential")))
}

/// Goes the way to a URL of the provider.
async fn reach(round: &mut Round<'_>, settings: &Settings, whose: &str, url: &Url) -> Result<(), Blame> {
    let https = url.scheme() == "https";
    let host = url.host_str().and_then(|host| Host::parse(host).ok());
    let to = host.map(|host| Authority { host, port: url.port_or_known_default() });
    let probe = to.as_ref().and_then(|to| Probe::new(to, settings.proxy.as_ref().filter(|_| https)));
    let (Some(to), Some(probe)) = (to, probe) else {
        return Err(round.report.fail(begin("dns", whose), "the host is none that can be dialled", "correct the URL"));
    };
    let tls = tls(settings);
    way::go(round, &Place { whose: whose.to_owned(), to, https, tls: &tls, probe }).await
}

/// What the first credential is used with.
fn tls(settings: &Settings) -> TlsSettings {
    let mut tls = settings.tls.clone();
    if let Some(Proof::Certificate { certificate, key }) = settings.credentials.first().map(|one| &one.proof) {
        tls.identity = Some((certificate.clone(), key.clone()));
    }
    tls
}

async fn ask(
    round: &mut Round<'_>,
    endpoint: &TokenEndpoint,
    index: usize,
    with_clock: bool,
) -> Result<Granted, Blame> {
    let settings = endpoint.settings();
    let standby = if index > 0 { " (standby)" } else { "" };
    let subject = format!("token {}, {}{standby}", settings.name, endpoint.client_id(index));
    let (begun, from) = (begin("token", subject), SystemTime::now());
    let asked = endpoint.ask(index).await;
    let date = match &asked {
        Ok(grant) => grant.date,
        Err(error) => error.date,
    };
    // Told first: it may be why the rest went wrong.
    let clock_is_off = with_clock
        && (asked.is_ok() || date.is_some())
        && clock::tell(round.report, &format!("token {}", settings.name), date, from);
    let grant = match asked {
        Ok(grant) => grant,
        Err(error) => {
            let words = error.words.as_ref().map(|words| format!("; it says {}", shown(words.as_str())));
            let clock = if clock_is_off { "first the clock, see above; then " } else { "" };
            let what = format!("{error}{}", words.unwrap_or_default());
            let cure = seen_above(&error.what).map_or_else(|| error.cure.clone().unwrap_or_default(), Into::into);
            return Err(round.report.fail(begun, what, format!("{clock}{cure}")));
        }
    };
    let claims = jsonwebtoken::dangerous::insecure_decode_claims::<Value>(grant.access_token.expose()).ok();
    let kind = if claims.is_some() { "a JWT" } else { "an opaque token" };
    let what = format!("{kind} ({}), good for {}", grant.access_token.fingerprint(), spell(grant.life));
    match doubt(settings, &grant, claims.as_ref()) {
        Some((doubt, cure)) => round.report.warn(begun, format!("{what}; {doubt}"), cure),
        None => round.report.ok(begun, format!("{what}{}", scope(settings))),
    }
    let bound = claims.as_ref().is_some_and(|claims| claims["cnf"]["x5t#S256"].is_string());
    Ok(Granted { says: claims.as_ref().map(says), bound, token: grant.access_token })
}

/// What to do about a failure that an earlier step has told of, or has shown to be none of the way's.
fn seen_above(what: &What) -> Option<&'static str> {
    match what {
        What::Secret(_) => Some("see `secret` above"),
        What::Discovery(..) => Some("see `discovery` above"),
        What::Unreachable(_) => {
            Some("the provider took the connection before and not now: try again, and look at its status")
        }
        What::Timeout(_) => Some("the provider is slow: try again; `refresh.timeout` says how long it is waited for"),
        What::Panicked => Some("this is a bug: please report it"),
        What::Status(..)
        | What::ErrorIn200(_)
        | What::TooLong
        | What::NotJson
        | What::NoAccessToken
        | What::BadAccessToken
        | What::TokenType
        | What::ExpiresIn
        | What::Assertion(_) => None,
    }
}

fn scope(settings: &Settings) -> String {
    settings.scope.as_ref().map(|scope| format!(", for all of `{scope}`")).unwrap_or_default()
}

/// What of a grant may be wrong although there is one: the first that is.
fn doubt(settings: &Settings, grant: &Grant, claims: Option<&Value>) -> Option<(String, String)> {
    if let Some(why) = &grant.stale_secret {
        return Some((format!("an older secret was used: {why}"), "see `secret` above".to_owned()));
    }
    let left = match (&grant.scope_left_out[..], &settings.scope, claims.and_then(granted_scope)) {
        ([], Some(asked), Some(granted)) => left_out(asked, &granted),
        (left, _, _) => left.to_vec(),
    };
    // `.default` stands for whatever was granted, and comes back as that.
    let left: Vec<_> = left.into_iter().filter(|word| !word.ends_with("/.default")).collect();
    if !left.is_empty() {
        let left = left.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
        return Some((
            format!("of the scope that was asked for, {left} is not in it"),
            "have it allowed for this client at the provider, or take it out of `scope`".to_owned(),
        ));
    }
    if grant.odd_type {
        return Some((
            "its `token_type` is not `Bearer`".to_owned(),
            "it is used as one all the same, as most APIs want it; if yours refuses it, ask what it takes".to_owned(),
        ));
    }
    let claims = claims?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?;
    let time = |name: &str| Duration::try_from_secs_f64(claims.get(name)?.as_f64()?).ok();
    if let Some(early) = time("nbf").and_then(|from| from.checked_sub(now)).filter(|early| *early > SLACK) {
        return Some((
            format!("it is valid only in {}", spell(early)),
            "this machine's clock is behind the provider's, or the other way round: see `clock`".to_owned(),
        ));
    }
    let life = time("exp").map(|until| until.saturating_sub(time("iat").unwrap_or(now)));
    if let Some(life) = life.filter(|life| *life + ROUNDING < grant.life) {
        return Some((
            format!("by its own words it lives for {}", spell(life)),
            "the provider says two things about its life (`expires_in` and `exp`), and APIs go by the second: tell whoever \
             runs it, and set `refresh.margin` to the difference until then"
                .to_owned(),
        ));
    }
    let wanted: Vec<&String> = settings.audience.iter().chain(&settings.resource).collect();
    let audience = texts(claims.get("aud"));
    if !wanted.is_empty() && !audience.is_empty() && !wanted.iter().any(|wanted| audience.contains(&wanted.as_str())) {
        let wanted = wanted.iter().map(|wanted| format!("`{wanted}`")).collect::<Vec<_>>().join(", ");
        return Some((
            format!("it is for {}, and {wanted} was asked for", list(&audience)),
            "an API that checks the audience refuses it: which of the two does the API expect?".to_owned(),
        ));
    }
    if let (Some(issuer), Some(own)) = (settings.endpoint.issuer(), claims["iss"].as_str())
        && issuer != own
    {
        return Some((
            format!("it is issued by {}, which is not `issuer`", shown(own)),
            "an API that checks the issuer has to expect this one".to_owned(),
        ));
    }
    None
}

/// The scope that a JWT says it has (RFC 9068, 2.2.3; `scp` with some, as a list or a text).
fn granted_scope(claims: &Value) -> Option<String> {
    let claim = claims.get("scope").or_else(|| claims.get("scp"))?;
    Some(texts(Some(claim)).join(" ")).filter(|scope| !scope.is_empty())
}

fn says(claims: &Value) -> String {
    let audience = texts(claims.get("aud"));
    let audience = if audience.is_empty() { "nobody in particular".to_owned() } else { list(&audience) };
    let issuer = claims["iss"].as_str().map_or_else(|| "somebody that it does not name".to_owned(), shown);
    format!("it is for {audience}, issued by {issuer}")
}

/// One text, or several.
fn texts(value: Option<&Value>) -> Vec<&str> {
    match value {
        Some(Value::String(text)) => vec![text],
        Some(Value::Array(texts)) => texts.iter().filter_map(Value::as_str).collect(),
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) | None => Vec::new(),
    }
}

fn list(texts: &[&str]) -> String {
    const MOST: usize = 4;
    let more = if texts.len() > MOST { ", …" } else { "" };
    format!("{}{more}", texts.iter().take(MOST).map(|text| shown(text)).collect::<Vec<_>>().join(", "))
}
