//! `bearerd token`: the token alone, or one readable reason why there is none.

use bearerd::demo::answer::Answer;
use serde_json::{Value, json};

use super::child::{Child, bearerd};
use super::stage::Stage;

async fn asked(stage: &Stage, more: &[&str]) -> super::child::Ended {
    let file = stage.file();
    let mut arguments = vec!["token", "--config", &file];
    arguments.extend(more);
    Child::spawn(&arguments, &[]).ended_with_token().await
}

#[tokio::test]
async fn the_token_is_all_of_one_line() {
    let stage = Stage::new().await;
    let token = asked(&stage, &[]).await.with(0);
    assert_eq!(token.err, "");
    let line = token.out.strip_suffix('\n').unwrap();
    assert!(line.split('.').count() == 3 && !line.contains(char::is_whitespace), "{line}");
    let issued = stage.provider.calls()[0].token.clone().unwrap();
    assert_eq!(line, issued.expose());
}

#[tokio::test]
async fn its_claims_are_json_and_the_token_stays_away() {
    let stage = Stage::new().await;
    let claims = asked(&stage, &["--claims"]).await.with(0);
    claims.is_clean();
    let claims: Value = serde_json::from_str(&claims.out).unwrap();
    assert_eq!(claims["iss"], stage.provider.issuer());
    assert!(claims["exp"].is_u64(), "{claims}");
}

#[tokio::test]
async fn among_several_it_wants_a_name_and_an_unknown_one_lists_the_known() {
    let stage = Stage::new().await;
    let second = "  other:\n    token_url: https://id.nowhere.invalid/token\n    client_id: app\n    client_secret: {file: secret}\nroutes:\n";
    let two = stage.usual().replace("routes:\n", second);
    stage.folder.write("bearerd.yaml", &two.replace("    token: main\n", "    token: main\n    match: {path: /a}\n"));
    asked(&stage, &[]).await.with(1).silent().says(&["error: say which token: `main`, `other`"]);
    let unknown = asked(&stage, &["mian"]).await.with(1).silent();
    unknown.says(&["error: there is no token `mian`; there is `main`, `other`"]);
    assert!(asked(&stage, &["main"]).await.with(0).out.starts_with("eyJ"));
    let away = asked(&stage, &["other"]).await.with(1).silent();
    away.says(&[
        "error: no token `other` from `id.nowhere.invalid`: the token endpoint cannot be reached",
        "hint: is the host in `token_url` spelt right?",
    ]);
}

#[tokio::test]
async fn an_opaque_token_is_printed_and_has_no_claims() {
    let stage = Stage::new().await;
    stage.provider.script().always(Answer::json(200, &json!({"access_token": "opaque-1", "token_type": "Bearer"})));
    assert_eq!(asked(&stage, &[]).await.with(0).out, "opaque-1\n");
    asked(&stage, &["--claims"]).await.with(1).silent().says(&["error: the token is opaque (not a JWT)"]);
}

#[tokio::test]
async fn a_provider_that_is_away_is_told_with_its_host() {
    let stage = Stage::new().await;
    stage.provider.stop().await;
    let away = asked(&stage, &[]).await.with(1).silent();
    away.says(&[
        "error: no token `main` from `localhost`: the token endpoint cannot be reached: the connection was refused",
    ]);
}

#[tokio::test]
async fn a_certificate_that_nobody_trusts_is_told() {
    let stage = Stage::new().await;
    let other = bearerd::demo::certs::Ca::new().unwrap();
    stage.folder.write("ca.pem", &other.pem());
    let ended = asked(&stage, &[]).await.with(1).silent();
    ended.says(&["error: no token `main` from `localhost`: ", "certificate"]);
}

#[tokio::test]
async fn a_credential_that_is_rejected_is_told_with_what_to_compare() {
    let stage = Stage::new().await;
    stage.folder.write("secret", "wrong-x-canary");
    let rejected = asked(&stage, &[]).await.with(1).silent();
    rejected.is_clean();
    rejected.says(&[
        "401",
        "invalid_client",
        "\n  hint: compare `client_id` and `client_secret`",
        "client_secret_post",
    ]);
}

#[tokio::test]
async fn a_wrong_path_is_told_as_one() {
    let stage = Stage::new().await;
    stage.folder.write("bearerd.yaml", &stage.usual().replace("/oauth2/token", "/oauth/token"));
    asked(&stage, &[]).await.with(1).silent().says(&["answered 404", "is `token_url` the token endpoint"]);
    bearerd(&["token", "--config", "/nowhere.yaml"], &[]).await.with(78).silent();
}

#[tokio::test]
async fn another_scope_than_the_one_asked_for_is_told_beside_the_token() {
    let stage = Stage::new().await;
    stage.folder.write(
        "bearerd.yaml",
        &stage.usual().replace("    client_id: app\n", "    client_id: app\n    scope: read write\n"),
    );
    stage.provider.script().push(Answer::edit(|answer| {
        answer.insert("scope".into(), "read".into());
    }));
    let token = asked(&stage, &[]).await.with(0);
    assert_eq!(token.out.lines().count(), 1);
    token.says(&["warning: `read write` was asked for, and the provider granted another scope"]);
}
