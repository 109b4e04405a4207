//! The issuer's document: whether it is there, whose it is, and whether it offers what is asked for.

use url::Url;

use super::Round;
use super::report::{Blame, begin, shown};
use crate::token::grant::What;
use crate::token::settings::{CLIENT_CREDENTIALS, ClientAuth, Endpoint};
use crate::token::source::{Described, NoDocument, TokenEndpoint};

/// Where tokens are asked for; `None` where that is not known, which has been told.
pub(super) async fn look(round: &mut Round<'_>, endpoint: &TokenEndpoint) -> Result<Url, Blame> {
    let settings = endpoint.settings();
    let fallback = match &settings.endpoint {
        Endpoint::TokenUrl(url) => return Ok(url.clone()),
        Endpoint::Both { token_url, .. } => Some(token_url.clone()),
        Endpoint::Issuer(_) => None,
    };
    let begun = begin("discovery", format!("token {}", settings.name));
    let Some((described, found)) = endpoint.look_at_issuer().await else {
        return fallback.ok_or_else(|| round.report.fail(begun, "there is no issuer", "write `issuer` or `token_url`"));
    };
    let url = match found {
        Ok(url) => url,
        Err(what) => {
            let cure = cure(&what, &described);
            return match fallback {
                Some(url) => {
                    let cure = format!("{cure}; until then `token_url` is asked as it is written");
                    round.report.warn(begun, what.to_string(), cure);
                    Ok(url)
                }
                None => Err(round.report.fail(begun, what.to_string(), cure)),
            };
        }
    };
    if let Some(grants) = &described.grant_types_supported
        && !grants.contains(&settings.grant_type)
    {
        let what = format!("the provider does not list the grant `{}`", settings.grant_type);
        let cure = match settings.grant_type == CLIENT_CREDENTIALS {
            true => "some leave it out and give tokens all the same; if it gives none, the provider has to allow it",
            false => "is `grant_type` right? Some providers do not list all that they take",
        };
        round.report.warn(begun, what, cure);
    } else if let Some(listed) = unlisted(&settings.auth, &described) {
        let what = format!("the provider does not list `auth: {}`; it lists {listed}", settings.auth.as_str());
        round.report.warn(begun, what, "use one that is listed and that this client is registered for");
    } else {
        let place = url.host_str().map_or_else(String::new, shown);
        round.report.ok(begun, format!("the issuer's document is its own, and tokens are at {place}"));
    }
    Ok(url)
}

fn cure(what: &What, described: &Described) -> String {
    match (what, &described.issuer) {
        (What::Discovery(_, NoDocument::Useless(why)), Some(issuer)) if why.is_of_another() => format!("the document says {}: write `issuer` exactly like that", shown(issuer)),
        (What::Discovery(..), _) => {
            "is `issuer` the provider's, with its path? Its document is at `ISSUER/.well-known/openid-configuration`; a \
             provider that has none takes `token_url` instead"
                .to_owned()
        }
        (_, _) => "see above: the provider cannot be asked".to_owned(),
    }
}

/// What is listed, where the way of proving is not. A foreign assertion has no name of its own there.
fn unlisted(auth: &ClientAuth, described: &Described) -> Option<String> {
    let listed = match &described.token_endpoint_auth_methods_supported {
        Some(listed) => listed.clone(),
        None => vec!["client_secret_basic".to_owned()],
    };
    let names: &[&str] = match auth {
        ClientAuth::Tls => &["tls_client_auth", "self_signed_tls_client_auth"],
        ClientAuth::Assertion { .. } => &["private_key_jwt", "client_assertion"],
        ClientAuth::Basic(_) | ClientAuth::Post | ClientAuth::SecretJwt(_) | ClientAuth::PrivateKeyJwt(_) => {
            &[auth.as_str()]
        }
    };
    let is_listed = names.iter().any(|name| listed.iter().any(|one| one == name));
    let shown = listed.iter().take(8).map(|name| shown(name)).collect::<Vec<_>>().join(", ");
    (!is_listed).then_some(shown)
}
