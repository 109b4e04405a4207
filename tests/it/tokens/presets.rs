//! Every preset against a server that answers in its provider's documented shape: what is asked is what the real one
//! demands, and what comes back is understood. Four of them through a full cycle: issue, renewal, revocation, rotation.

use aws_lc_rs::encoding::AsDer as _;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bearerd::demo::answer::Answer;
use bearerd::demo::seen::TokenCall;
use serde_json::{Value, json};

use super::{Bench, EAGER, LIFE, grants, newest, renewable};
use crate::support::{CLIENT, PATIENCE, Rig, SECRET, eventually};

/// How a provider wants to be told who asks.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Proof {
    Basic,
    Post,
    /// As `client_assertion`.
    Jwt,
    /// As the grant itself.
    Grant,
}

struct Shape {
    preset: &'static str,
    /// What the user writes beside endpoint and credentials.
    lines: &'static str,
    proof: Proof,
    /// Exactly what is asked besides who asks, in order.
    form: &'static [(&'static str, &'static str)],
    /// The answer but for its `access_token`, as the provider documents it.
    answer: fn() -> Value,
    /// What is made of it, in seconds.
    life: u64,
}

const GRANT: (&str, &str) = ("grant_type", "client_credentials");

const SHAPES: [Shape; 14] = [
    Shape {
        preset: "verint-identity",
        lines: "",
        proof: Proof::Basic,
        form: &[GRANT],
        answer: || json!({"token_type": "Bearer", "expires_in": 1800}),
        life: 1_800,
    },
    Shape {
        preset: "verint-coaching",
        lines: "",
        proof: Proof::Basic,
        form: &[GRANT],
        answer: || {
            json!({"expires_in": 3600, "refresh_expires_in": 0, "token_type": "bearer", "not-before-policy": 0,
                "scope": "email profile"})
        },
        life: 3_600,
    },
    Shape {
        preset: "authgear",
        lines: "resource: https://api.example.test",
        proof: Proof::Post,
        form: &[GRANT, ("resource", "https://api.example.test")],
        answer: || json!({"token_type": "Bearer", "expires_in": 1800, "scope": "read:orders"}),
        life: 1_800,
    },
    Shape {
        preset: "servicenow",
        lines: "",
        proof: Proof::Post,
        form: &[GRANT],
        answer: || json!({"refresh_token": "ignored", "scope": "useraccount", "token_type": "Bearer", "expires_in": 1799}),
        life: 1_799,
    },
    Shape {
        preset: "okta",
        lines: "scope: orders.read",
        proof: Proof::Basic,
        form: &[GRANT, ("scope", "orders.read")],
        answer: || json!({"token_type": "Bearer", "expires_in": 3600, "scope": "orders.read"}),
        life: 3_600,
    },
    Shape {
        preset: "okta-org",
        lines: "scope: okta.users.read\nkey_id: k1",
        proof: Proof::Jwt,
        form: &[GRANT, ("scope", "okta.users.read")],
        answer: || json!({"token_type": "Bearer", "expires_in": 3600, "scope": "okta.users.read"}),
        life: 3_600,
    },
    Shape {
        preset: "keycloak",
        lines: "",
        proof: Proof::Basic,
        form: &[GRANT],
        answer: || json!({"expires_in": 300, "refresh_expires_in": 0, "token_type": "Bearer", "not-before-policy": 0}),
        life: 300,
    },
    Shape {
        preset: "auth0",
        lines: "audience: https://api.example.com",
        proof: Proof::Post,
        form: &[GRANT, ("audience", "https://api.example.com")],
        answer: || json!({"scope": "read:orders", "expires_in": 86400, "token_type": "Bearer"}),
        life: 86_400,
    },
    Shape {
        preset: "entra",
        lines: "scope: api://orders/.default",
        proof: Proof::Post,
        form: &[GRANT, ("scope", "api://orders/.default")],
        answer: || json!({"token_type": "Bearer", "expires_in": 3599, "ext_expires_in": 3599}),
        life: 3_599,
    },
    Shape {
        preset: "cognito",
        lines: "",
        proof: Proof::Basic,
        form: &[GRANT],
        answer: || json!({"expires_in": 3600, "token_type": "Bearer"}),
        life: 3_600,
    },
    Shape {
        preset: "salesforce",
        lines: "",
        proof: Proof::Post,
        form: &[GRANT],
        // No `expires_in`: how long a session lasts is a setting of the org.
        answer: || {
            json!({"signature": "c2ln", "scope": "api", "instance_url": "https://acme.my.salesforce.com",
                "id": "https://login.salesforce.com/id/00D/005", "token_type": "Bearer", "issued_at": "1700000000000"})
        },
        life: 900,
    },
    Shape {
        preset: "zoom",
        lines: "params: {account_id: acme}",
        proof: Proof::Basic,
        form: &[("grant_type", "account_credentials"), ("account_id", "acme")],
        answer: || json!({"token_type": "bearer", "expires_in": 3599, "scope": "user:read:admin"}),
        life: 3_599,
    },
    Shape {
        preset: "sap-xsuaa",
        lines: "",
        proof: Proof::Post,
        form: &[GRANT],
        answer: || json!({"token_type": "bearer", "expires_in": 43199, "scope": "uaa.resource", "jti": "0a1b"}),
        life: 43_199,
    },
    Shape {
        preset: "google-sa",
        lines: "key_id: k1\nassertion: {claims: {scope: 'https://www.googleapis.com/auth/cloud-platform'}}",
        proof: Proof::Grant,
        form: &[("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer")],
        answer: || json!({"expires_in": 3599, "token_type": "Bearer"}),
        life: 3_599,
    },
];

/// An RSA key that was made just now.
fn key() -> String {
    let key = aws_lc_rs::rsa::KeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap();
    let encoded = STANDARD.encode(key.as_der().unwrap().as_ref());
    let lines: Vec<_> = encoded.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines.join("\n"))
}

impl Shape {
    /// bearerd with the preset, and the few lines that the user adds.
    fn run(&self, bench: Bench, more: &str) -> Rig {
        bench.folder.write("key.pem", &key());
        let proof = match self.proof {
            Proof::Basic | Proof::Post => "client_secret: {file: secret}",
            Proof::Jwt | Proof::Grant => "private_key: {file: key.pem}",
        };
        let token = format!(
            "provider: {}\ntoken_url: {}\nclient_id: {CLIENT}\n{proof}\ntls: {{ca_file: ca.pem}}\n{}\n{more}",
            self.preset,
            bench.provider.token_url(),
            self.lines
        );
        let route = bench.route();
        bench.run(&[("main", &token)], &[("api", &route)])
    }

    /// Refuses what the real provider would refuse.
    fn check(&self, call: &TokenCall, token_url: &str) {
        let name = self.preset;
        assert_eq!(call.headers["content-type"], "application/x-www-form-urlencoded", "{name}");
        let authorization = call.headers.get("authorization").map(|value| value.to_str().unwrap());
        let who = ["client_id", "client_secret", "client_assertion_type", "client_assertion", "assertion"];
        let (who, what): (Vec<_>, Vec<_>) =
            call.form.iter().map(|(key, value)| (key.as_str(), value.as_str())).partition(|(key, _)| who.contains(key));
        assert_eq!(what, self.form, "{name}");
        assert_eq!(authorization.is_some(), self.proof == Proof::Basic, "{name}: one way to say it, not two");
        let keys: Vec<_> = who.iter().map(|(key, _)| *key).collect();
        match self.proof {
            Proof::Basic => assert!(keys.is_empty(), "{name}: {keys:?}"),
            Proof::Post => assert_eq!(who, [("client_id", CLIENT), ("client_secret", SECRET)], "{name}"),
            Proof::Jwt => {
                assert_eq!(keys, ["client_id", "client_assertion_type", "client_assertion"], "{name}");
                check_jwt(who[2].1, token_url, None);
            }
            Proof::Grant => {
                assert_eq!(keys, ["assertion"], "{name}");
                check_jwt(who[0].1, token_url, Some("https://www.googleapis.com/auth/cloud-platform"));
            }
        }
    }
}

fn check_jwt(jwt: &str, audience: &str, scope: Option<&str>) {
    let part = |index| -> Value {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(jwt.split('.').nth(index).unwrap()).unwrap()).unwrap()
    };
    let (header, claims) = (part(0), part(1));
    assert_eq!((header["alg"].as_str(), header["kid"].as_str()), (Some("RS256"), Some("k1")));
    assert_eq!((claims["iss"].as_str(), claims["aud"].as_str()), (Some(CLIENT), Some(audience)));
    assert_eq!(claims["scope"].as_str(), scope);
    let life = claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap();
    assert!(life <= 3_600, "Okta and Google take an hour at the most: {life}");
}

#[tokio::test]
async fn each_of_the_fourteen_presets_gets_its_token() {
    for shape in SHAPES {
        let bench = Bench::new().await;
        let token_url = bench.provider.token_url();
        let token = format!("opaque-{}", shape.preset);
        bench.api.accept(&token);
        let mut answer = (shape.answer)();
        answer["access_token"] = token.into();
        bench.provider.script().always(Answer::json(200, &answer));
        let rig = shape.run(bench, "");
        rig.proxy.until_ready().await;
        shape.check(&rig.provider.calls()[0], &token_url);
        assert_eq!(rig.get("/").await.status, 200, "{}", shape.preset);
        let status = rig.proxy.page("/status").await.json();
        let left = status["tokens"][0]["usable_for_seconds"].as_f64().unwrap();
        let margin = 10.0_f64.min(shape.life as f64 / 10.0);
        assert!((left - (shape.life as f64 - margin)).abs() < 15.0, "{}: {left} of {}", shape.preset, shape.life);
    }
}

fn shape(preset: &str) -> &'static Shape {
    SHAPES.iter().find(|shape| shape.preset == preset).unwrap()
}

/// Issue, renewal, revocation, rotation; `rejection` is how the provider turns down a secret that it no longer knows.
async fn cycle(preset: &str, status: u16, rejection: &Value) {
    let shape = shape(preset);
    let bench = Bench::new().await;
    bench.provider.set_life(LIFE);
    let rig = shape.run(bench, EAGER);
    rig.proxy.until_ready().await;
    assert_eq!(rig.get("/").await.status, 200, "{preset}: issued");
    rig.provider.wait_for(2, PATIENCE).await.unwrap();
    assert_eq!(rig.get("/").await.status, 200, "{preset}: renewed");

    renewable(&rig).await;
    rig.api.reject(newest(&rig));
    assert_eq!(rig.get("/").await.status, 200, "{preset}: revoked, and asked for anew");

    if preset == "servicenow" {
        // Whoever asks before the end gets the same token, with what is left of its life.
        let calls = rig.provider.calls();
        let same = calls.iter().rev().find_map(|call| call.token.clone()).unwrap();
        rig.provider.script().push(Answer::json(
            200,
            &json!({"access_token": same.expose(), "scope": "useraccount", "token_type": "Bearer", "expires_in": 3}),
        ));
        rig.provider.wait_for(calls.len() + 2, PATIENCE).await.unwrap();
        assert_eq!(rig.get("/").await.status, 200, "{preset}: the same token again");
    }

    // The provider knows the new secret only; bearerd learns of it when the file is there.
    rig.provider.set_secrets(CLIENT, &["the next secret"]);
    rig.provider.script().push(Answer::json(status, rejection));
    rig.proxy.until_said("no token as app: the token endpoint answered").await;
    assert_eq!(rig.get("/").await.status, 200, "{preset}: turned down, and served by the token that is held");
    let granted = grants(&rig);
    rig.folder.replace("secret", "the next secret");
    eventually("a token is granted for the new secret", || grants(&rig) > granted).await;
    assert_eq!(rig.get("/").await.status, 200, "{preset}: rotated");
    assert_eq!(rig.proxy.page("/status").await.json()["tokens"][0]["state"], "fresh", "{preset}");
}

#[tokio::test]
async fn verint_coaching_through_a_full_cycle() {
    cycle("verint-coaching", 401, &json!({"error": "unauthorized_client"})).await;
}

#[tokio::test]
async fn okta_through_a_full_cycle() {
    let words = "The client secret supplied for a confidential client is invalid.";
    cycle("okta", 401, &json!({"errorCode": "invalid_client", "error": "invalid_client", "errorSummary": words})).await;
}

#[tokio::test]
async fn authgear_through_a_full_cycle() {
    let words = "invalid client secret";
    cycle("authgear", 400, &json!({"error": "invalid_request", "error_description": words})).await;
}

#[tokio::test]
async fn servicenow_through_a_full_cycle() {
    cycle("servicenow", 401, &json!({"error": "server_error", "error_description": "access_denied"})).await;
}
