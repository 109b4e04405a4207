//! What a preset asks of the token that names it.
//!
//! What the provider is known to refuse is a problem; what only looks unlike it is a doubt, because of custom domains
//! and proxies in between.

use url::Url;

use super::super::presets::{Audience, Preset, is_like};
use super::super::problem::{Complaint, Path};
use super::super::written::Token;
use super::Scribe;

pub(super) fn check(scribe: &mut Scribe<'_>, path: &Path, preset: &Preset, token: &Token) {
    for need in preset.needs {
        let at = need.key.iter().fold(path.clone(), |path, key| path.with(*key));
        let mut around = need.key.iter().scan(path.clone(), |at, key| {
            *at = at.with(*key);
            Some(at.clone())
        });
        let told = scribe.is_bad(path) || around.any(|path| scribe.is_bad(&path));
        let other = !need.or.is_empty() && scribe.is_there(&path.with(need.or));
        if !told && !other && !scribe.is_there(&at) {
            scribe.missing(path, &[&need.key.join(".")], Some(need.cure.to_owned()));
        }
    }
    let scope = token.scope.iter().flat_map(|scope| &scope.0).flat_map(|scope| scope.split_whitespace());
    if let Some(end) = preset.scope_end
        && let (true, scopes) = (token.scope.is_some(), scope.collect::<Vec<_>>())
        && !matches!(scopes[..], [one] if one.ends_with(end))
    {
        let complaint = Complaint::new(format!("{} takes one scope that ends in `{end}`", preset.title));
        scribe.problem(&path.with("scope"), complaint.hint(format!("write the URI of one API and `{end}` behind it")));
    }
    for (key, written, form) in [
        ("token_url", token.token_url.as_deref(), preset.token_path),
        ("issuer", token.issuer.as_deref(), preset.issuer_path),
    ] {
        let Some(written) = written else { continue };
        let path = path.with(key);
        if let Some((_, what, hint)) = preset.refused.iter().find(|(form, ..)| is_like(form, written)) {
            scribe.problem(&path, Complaint::new(*what).hint(*hint));
        } else if !form.is_empty() && !Url::parse(written).is_ok_and(|url| is_like(form, url.path())) {
            let what = format!("does not look like {}, whose path is `{form}`", preset.title);
            let hint = Some(preset.find_endpoint).filter(|hint| !hint.is_empty()).map(str::to_owned);
            scribe.key_warning(&path, Complaint { what, hint });
        }
    }
    if preset.audience == Audience::TokenUrl && token.auth.makes_jwt() && token.assertion.audience.is_none() {
        let hint = format!("{} takes no issuer there: write `token_url`, and the audience is that", preset.title);
        scribe.missing(path, &["assertion.audience"], Some(hint));
    }
}
