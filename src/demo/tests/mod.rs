//! The servers held to what they say about themselves, over real sockets.

mod of_api;
mod of_bytes;
mod of_http2;
mod of_provider;

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::api::{self, Api};
use super::certs::Ca;
use super::provider::{self, Provider};

const NAMES: &[&str] = &["localhost", "127.0.0.1", "api.example.test"];

/// Long enough for a loaded machine; nothing waits so long when it works.
const PATIENCE: Duration = Duration::from_secs(10);

struct World {
    ca: Ca,
    provider: Provider,
    api: Api,
    client: reqwest::Client,
}

impl World {
    async fn new() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut provider::Settings)) -> Self {
        let ca = Ca::new().unwrap();
        let mut settings = provider::Settings::new(ca.server(NAMES).unwrap());
        settings.clients = vec![("reports".into(), "s3cret".into())];
        change(&mut settings);
        let provider = Provider::start(settings).await.unwrap();
        let api = api::Settings::new(ca.server(NAMES).unwrap(), provider.verifier());
        let api = Api::start(api).await.unwrap();
        let client = client(&ca);
        Self { ca, provider, api, client }
    }

    /// Asks for a token with Basic.
    async fn ask(&self, id: &str, secret: &str, form: &[(&str, &str)]) -> (u16, Value) {
        let encode = |part| utf8_percent_encode(part, NON_ALPHANUMERIC).to_string();
        let credentials = BASE64_STANDARD.encode(format!("{}:{}", encode(id), encode(secret)));
        let request = self.form(form).header("authorization", format!("Basic {credentials}"));
        answer(request).await
    }

    async fn token(&self) -> String {
        let (status, reply) = self.ask("reports", "s3cret", &[("grant_type", "client_credentials")]).await;
        assert_eq!(status, 200, "{reply}");
        reply["access_token"].as_str().unwrap().to_owned()
    }

    fn form(&self, form: &[(&str, &str)]) -> reqwest::RequestBuilder {
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        self.client
            .post(self.provider.token_url())
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body)
    }

    fn get(&self, path: &str, token: &str) -> reqwest::RequestBuilder {
        self.client.get(format!("{}{path}", self.api.url())).header("authorization", format!("Bearer {token}"))
    }

    /// A TLS connection to the API, for bytes.
    async fn connect(&self) -> TlsStream<TcpStream> {
        let tcp = TcpStream::connect(self.api.addr()).await.unwrap();
        let connector = TlsConnector::from(Arc::new(self.ca.client().unwrap()));
        connector.connect(ServerName::try_from("localhost").unwrap(), tcp).await.unwrap()
    }
}

fn client(ca: &Ca) -> reqwest::Client {
    reqwest::Client::builder().tls_backend_preconfigured(ca.client().unwrap()).no_proxy().build().unwrap()
}

async fn answer(request: reqwest::RequestBuilder) -> (u16, Value) {
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    (status, serde_json::from_str(&response.text().await.unwrap()).unwrap_or_default())
}

/// Sends these bytes and reads to the end of the connection; the error says whether it was a polite one.
async fn exchange(stream: &mut TlsStream<TcpStream>, bytes: &str) -> (String, std::io::Result<usize>) {
    stream.write_all(bytes.as_bytes()).await.unwrap();
    let mut read = Vec::new();
    let end = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut read)).await.unwrap();
    (String::from_utf8(read).unwrap(), end)
}
