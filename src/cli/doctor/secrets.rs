//! Secrets, keys and assertions: whether each can be read now, and whether it is what it should be.
//!
//! What a secret holds is looked at and never shown, not even its length.

use std::time::SystemTime;

use serde_json::Value;

use super::Round;
use super::report::{Report, begin, spell};
use crate::config::Plan;
use crate::secret::Secret;
use crate::token::settings::{Proof, SecretSource};
use crate::token::source::{key, read_once};

pub(super) async fn look(round: &mut Round<'_>, plan: &Plan) {
    for token in &plan.tokens {
        for credential in &token.credentials {
            if let Some(source) = credential.proof.source() {
                let whose = format!("token {}, {}", token.name, credential.client_id);
                one(round.report, &whose, source, Some(&credential.proof)).await;
            }
        }
    }
    for client in &plan.callers.clients {
        if let Some(source) = &client.password {
            one(round.report, &format!("client {}", client.name), source, None).await;
        }
    }
}

async fn one(report: &mut Report, whose: &str, source: &SecretSource, proof: Option<&Proof>) {
    let place = match source {
        SecretSource::Inline(_) => "in the configuration or a variable".to_owned(),
        SecretSource::File(path) => path.display().to_string(),
        SecretSource::Exec(exec) => format!("`{}`", exec.command.first().map_or("", String::as_str)),
    };
    let begun = begin("secret", format!("{whose}: {place}"));
    let secret = match read_once(source).await {
        Ok(secret) => secret,
        Err(why) => {
            report.fail(begun, why, cure(source));
            return;
        }
    };
    if let Some(Proof::Key { .. }) = proof {
        match key::check(secret.expose()) {
            Ok(algs) => {
                let algs: Vec<&str> = algs.iter().map(|alg| alg.as_str()).collect();
                report.ok(begun, format!("a private key that signs {}", algs.join(", ")));
            }
            Err(error) => {
                report.fail(begun, error.to_string(), "put the whole key there: PEM (PKCS#8, PKCS#1, SEC 1) or a JWK");
            }
        }
        return;
    }
    if let Some((what, cure)) = doubt(secret.expose()) {
        report.warn(begun, what, cure);
        return;
    }
    match (proof, source) {
        (Some(Proof::Assertion(_)), _) => match left(&secret) {
            Some(Ok(left)) => report.ok(begun, format!("a JWT that is good for another {}", spell(left))),
            Some(Err(over)) => {
                let cure = "whoever writes it has stopped: a projected token is written anew by the kubelet, and is one \
                            only while its pod runs";
                report.fail(begun, format!("a JWT that has ended {} ago", spell(over)), cure);
            }
            None => report.ok(begun, "can be read; it does not say when it ends"),
        },
        (_, SecretSource::File(path)) => {
            let ends_line = std::fs::read(path).is_ok_and(|bytes| zeroize::Zeroizing::new(bytes).ends_with(b"\n"));
            let newline = if ends_line { "; the newline at its end is not part of it" } else { "" };
            report.ok(begun, format!("can be read{newline}"));
        }
        (_, SecretSource::Exec(_)) => report.ok(begun, "the command printed one"),
        (_, SecretSource::Inline(_)) => report.ok(begun, "is there"),
    }
}

fn cure(source: &SecretSource) -> &'static str {
    match source {
        SecretSource::Exec(_) => {
            "run the command as bearerd's user: it has to print the secret alone and end with 0; the program's path is \
             whole, and no shell reads it"
        }
        SecretSource::Inline(_) | SecretSource::File(_) => {
            "give bearerd's user the right to read it, and put the secret alone into it, on one line"
        }
    }
}

/// What is taken as it is written, and was hardly meant so.
fn doubt(secret: &str) -> Option<(&'static str, &'static str)> {
    const ALONE: &str = "take that out of the file, so that the secret alone stands there, on one line";
    if secret.starts_with('\u{feff}') {
        return Some((
            "begins with a byte order mark (BOM), which is sent as a part of it",
            "save the file as UTF-8 without BOM: `sed -i '1s/^\\xef\\xbb\\xbf//' FILE`",
        ));
    }
    if secret.starts_with(char::is_whitespace) || secret.ends_with(char::is_whitespace) {
        return Some(("begins or ends with white space, which is sent as a part of it", ALONE));
    }
    let quoted = |quote| secret.len() >= 2 && secret.starts_with(quote) && secret.ends_with(quote);
    if quoted('"') || quoted('\'') {
        return Some(("stands in quotes, which are sent as a part of it", ALONE));
    }
    is_placeholder(secret).then_some((
        "looks like a placeholder, and is sent as it is",
        "put in its place the secret that the provider shows for this client",
    ))
}

fn is_placeholder(secret: &str) -> bool {
    const USUAL: [&str; 14] = [
        "changeme",
        "changeit",
        "change",
        "secret",
        "clientsecret",
        "mysecret",
        "yoursecret",
        "yourclientsecret",
        "password",
        "example",
        "placeholder",
        "replaceme",
        "todo",
        "tbd",
    ];
    let framed = [("<", ">"), ("${", "}"), ("{{", "}}"), ("$(", ")"), ("[", "]"), ("%", "%")];
    let letters: String = secret.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
    framed.iter().any(|(open, close)| secret.starts_with(open) && secret.ends_with(close))
        || USUAL.contains(&letters.as_str())
        || (secret.len() >= 3 && secret.chars().all(|c| matches!(c, 'x' | 'X' | '*' | '.')))
}

/// How long an assertion is good for, or for how long it has been none; `None` if it does not say.
fn left(assertion: &Secret<String>) -> Option<Result<std::time::Duration, std::time::Duration>> {
    let claims: Value = jsonwebtoken::dangerous::insecure_decode_claims(assertion.expose()).ok()?;
    let until = std::time::Duration::try_from_secs_f64(claims.get("exp")?.as_f64()?).ok()?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?;
    Some(until.checked_sub(now).ok_or(now.saturating_sub(until)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_hardly_meant_is_doubted() {
        for secret in
            ["changeme", "CHANGE-ME", "<secret>", "${CLIENT_SECRET}", "{{ secret }}", "xxxx", "your-client-secret"]
        {
            assert!(doubt(secret).unwrap().0.contains("placeholder"), "{secret}");
        }
        for (secret, what) in
            [(" s3", "white space"), ("s3\t", "white space"), ("\u{feff}s3", "BOM"), ("'s3'", "quotes")]
        {
            assert!(doubt(secret).unwrap().0.contains(what), "{secret:?}");
        }
        for secret in ["s3cr3t", "p+a/s%s:w=r d&~\"x", "secretary-7", "x", "a<b>", "8Q~${"] {
            assert_eq!(doubt(secret), None, "{secret}");
        }
    }
}
