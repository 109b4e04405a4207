//! Proofs by numbers: promises that a few requests cannot show broken, put to as many as it takes.
//!
//! Each has a short form that every `cargo test` runs, a full one for `BEARERD_TESTS=full`, and some a long one for
//! `BEARERD_TESTS=long`; see `support/scale.rs`. All make the same claims and print what they counted. Whatever is random
//! begins at a seed that is printed, and `SEED=n` begins there again. The APIs here speak in bytes: nothing in between can
//! mend what arrives.

#[cfg(target_os = "linux")]
mod accounted;
#[cfg(target_os = "linux")]
mod big_bodies;
mod one_credential;
mod proof;
mod random;
mod right_token;
mod slow_clients;
mod stale_connections;
mod transparency;
mod websockets;
mod wire;

use std::fmt::Write as _;

use bearerd::demo::provider::{self, Provider};

use crate::support::{Folder, PATIENCE, Proxy, SECRET};

/// A provider and bearerd. The API is the proof's own.
struct Stage {
    provider: Provider,
    proxy: Proxy,
    /// Holds `bearerd.yaml` and `secret`.
    _folder: Folder,
}

impl Stage {
    /// With a token of each of these names, for a client of the same name, and ready. `token` are further lines of each
    /// token; `rest` is the rest of the document, the routes included.
    async fn new(life: std::time::Duration, tokens: &[String], token: &str, rest: &str) -> Self {
        let clients = tokens.iter().map(|name| (name.clone(), SECRET.to_owned())).collect();
        // Without TLS: what is at stake here happens behind it.
        let settings = provider::Settings { clients, life, ..provider::Settings::plain() };
        let provider = Provider::start(settings).await.unwrap();
        let mut yaml = "listen: [127.0.0.1:0]\nadmin: 127.0.0.1:0\ntokens:\n".to_owned();
        for name in tokens {
            write!(
                yaml,
                "  {name}:\n    token_url: {}\n    client_id: {name}\n    client_secret: {{file: secret}}\n",
                provider.token_url()
            )
            .unwrap();
            token.lines().for_each(|line| writeln!(yaml, "    {line}").unwrap());
        }
        yaml.push_str(rest);
        let folder = Folder::new();
        folder.write("secret", SECRET);
        folder.write("bearerd.yaml", &yaml);
        let proxy = Proxy::start_quietly(&folder);
        provider.wait_for(tokens.len(), PATIENCE).await.unwrap();
        proxy.until_ready().await;
        Self { provider, proxy, _folder: folder }
    }
}
