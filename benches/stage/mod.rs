//! What stands around a bearerd that is measured: an app, an identity provider and an API that say fixed bytes.
//!
//! They are plain threads that read and write, and know of nothing that bearerd is made of, so that what is measured is
//! bearerd and that it stays the same. An API answers 200 to nobody but who sends the token.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use bearerd::app::Bound;
use bearerd::config::{self, Disk, Environment, Plan, Sources};
use bearerd::demo::certs::Ca;
use bearerd::inbound::Inherited;
use bearerd::observe::Observer;
use bearerd::observe::log::{Format, Level, Log, LogSettings};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// Whom the certificate of the API with TLS is for.
const HOST: &str = "api.example.test";

/// As long as the tokens of the big providers are.
const TOKEN_LENGTH: usize = 800;

/// What an API says of itself besides its answer: about as much as APIs behind a gateway do.
const ANSWER: &str = "HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\n\
                      Content-Type: application/json\r\nContent-Length: 100\r\nCache-Control: no-store\r\n\
                      X-Request-Id: 5d2f8f6e-0b6c-4e0e-9d1c-4c5a7f1b2d3e\r\nVary: Accept-Encoding\r\n\r\n";

/// What a call is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    /// As the recorded figures have it.
    pub(crate) name: &'static str,
    /// The beginning of the path, by which the route is found.
    path: &'static str,
    /// Length in bytes of what is sent along, if anything.
    body: Option<usize>,
}

/// The calls that are measured.
pub(crate) const CALLS: [Call; 3] = [
    Call { name: "get", path: "/plain", body: None },
    Call { name: "get-tls", path: "/tls", body: None },
    Call { name: "post-tls", path: "/tls", body: Some(1024) },
];

/// A provider and two APIs that run until the process ends, and a folder with the configuration that leads to them.
pub(crate) struct Stage {
    folder: PathBuf,
}

impl Stage {
    /// # Errors
    /// The system gives no port, no thread or no folder.
    pub(crate) fn set(name: &str) -> Result<Self> {
        let answer = format!("{ANSWER}{}", "x".repeat(100));
        let wanted = format!("authorization: Bearer {}\r\n", token());
        let ca = Ca::new()?;
        let provider = provider(24 * 60 * 60)?;
        let plain = serve(None, wanted.clone(), answer.clone())?;
        let tls = serve(Some(Arc::new(ca.server(&[HOST])?)), wanted, answer)?;

        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        let stage = Self { folder };
        fs::write(stage.folder.join("ca.pem"), ca.pem())?;
        fs::write(stage.folder.join("secret"), "a secret")?;
        fs::write(
            stage.configuration(),
            format!(
                "listen: 127.0.0.1:0
admin: off
tokens:
  api: {{token_url: 'http://{provider}/token', client_id: bench, client_secret: {{file: secret}}}}
routes:
  - {{name: plain, match: {{path: /plain}}, upstream: 'http://{plain}'}}
  - name: tls
    match: {{path: /tls}}
    upstream: https://{HOST}
    connect_to: {tls}
    http: http1
    tls: {{ca_file: ca.pem}}
"
            ),
        )?;
        Ok(stage)
    }

    /// The configuration file.
    pub(crate) fn configuration(&self) -> PathBuf {
        self.folder.join("bearerd.yaml")
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn token() -> String {
    "t".repeat(TOKEN_LENGTH)
}

/// Where tokens are granted that live so many seconds.
///
/// # Errors
/// The system gives no port or no thread.
pub(crate) fn provider(life: u32) -> Result<SocketAddr> {
    let grant = format!(r#"{{"access_token":"{}","token_type":"Bearer","expires_in":{life}}}"#, token());
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", grant.len());
    serve(None, String::new(), head + &grant)
}

/// What this file amounts to.
///
/// # Errors
/// It makes no sense.
pub(crate) fn plan(configuration: &Path) -> Result<Plan> {
    let flags = [("config".to_owned(), configuration.display().to_string())];
    let sources = Sources { flags: &flags, environment: &Environment::new(), files: &Disk, parallelism: 1 };
    Ok(config::load(&sources).map_err(|problems| anyhow::anyhow!("{problems}"))?.plan)
}

/// Says on standard error what is wrong.
pub(crate) fn observer() -> Observer {
    let settings = LogSettings { level: Level::Warn, format: Format::Pretty };
    Observer::new(Log::to(settings, |line| drop(std::io::stderr().write_all(line.as_bytes()))))
}

/// A bearerd that is configured by this file, with its sockets bound. Needs a runtime.
///
/// # Errors
/// The configuration makes no sense, or cannot be carried out.
pub(crate) fn bind(configuration: &Path) -> Result<(Bound, SocketAddr)> {
    let bound = Bound::new(plan(configuration)?, Inherited::default(), observer())?;
    let address = bound.addresses().first().copied().context("it listens nowhere")?;
    Ok((bound, address))
}

/// An app with one connection.
pub(crate) struct App {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl App {
    /// # Errors
    /// Nobody listens there.
    pub(crate) fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        // Far beyond what valgrind makes of it.
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        Ok(Self { stream, buffer: vec![0; 64 * 1024] })
    }

    /// Calls once, and reads the answer to its end.
    ///
    /// # Errors
    /// It is not a 200, or there is none.
    pub(crate) fn call(&mut self, request: &[u8]) -> Result<()> {
        self.stream.write_all(request)?;
        let mut read = 0;
        loop {
            match self.stream.read(&mut self.buffer[read..])? {
                0 => bail!("the connection ended within an answer"),
                more => read += more,
            }
            if let Some(length) = message_length(&self.buffer[..read])
                && length <= read
            {
                let answer = &self.buffer[..read];
                ensure!(answer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(answer));
                return Ok(());
            }
        }
    }
}

impl Call {
    /// Its bytes: what a program with a usual HTTP library sends.
    pub(crate) fn request(&self, to: SocketAddr) -> Vec<u8> {
        let method = if self.body.is_some() { "POST" } else { "GET" };
        let mut text = format!(
            "{method} {}/v2/orders/1234567?expand=lines&limit=50 HTTP/1.1\r\nHost: {to}\r\n\
             User-Agent: python-requests/2.32.3\r\nAccept-Encoding: gzip, deflate\r\nAccept: application/json\r\n\
             Connection: keep-alive\r\nX-Request-Id: 0af76519-16cd-43dd-8448-eb211c80319c\r\n\
             X-Correlation-Id: batch-2026-01-01-000017\r\n\
             traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n",
            self.path
        );
        if let Some(length) = self.body {
            // Writing to a String never fails.
            let _ = write!(text, "Content-Type: application/json\r\nContent-Length: {length}\r\n");
        }
        text.push_str("\r\n");
        text.push_str(&"x".repeat(self.body.unwrap_or(0)));
        text.into_bytes()
    }
}

/// Serves this answer to every request whose head has `wanted` in it, and else a 401; over TLS if there is any.
fn serve(tls: Option<Arc<ServerConfig>>, wanted: String, answer: String) -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let said: Arc<(String, String)> = Arc::new((wanted, answer));
    std::thread::Builder::new().name("peer".to_owned()).spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let (tls, said) = (tls.clone(), Arc::clone(&said));
            std::thread::spawn(move || {
                let _ = stream.set_nodelay(true);
                // However the connection ends: whoever calls finds out.
                drop(match tls {
                    None => converse(stream, &said.0, &said.1),
                    Some(tls) => match ServerConnection::new(tls) {
                        Ok(connection) => converse(StreamOwned::new(connection, stream), &said.0, &said.1),
                        Err(error) => Err(error.into()),
                    },
                });
            });
        }
    })?;
    Ok(address)
}

fn converse(mut stream: impl Read + Write, wanted: &str, answer: &str) -> Result<()> {
    let (mut buffer, mut read) = (vec![0; 64 * 1024], 0);
    loop {
        match stream.read(&mut buffer[read..])? {
            0 => return Ok(()),
            more => read += more,
        }
        if message_length(&buffer[..read]).is_some_and(|length| length <= read) {
            let is_wanted = contains(&buffer[..read], wanted.as_bytes());
            let refusal = "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n";
            stream.write_all(if is_wanted { answer } else { refusal }.as_bytes())?;
            stream.flush()?;
            read = 0;
        }
    }
}

/// Length of head and body together, once the head is whole.
fn message_length(bytes: &[u8]) -> Option<usize> {
    let head = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let mut lines = std::str::from_utf8(&bytes[..head]).ok()?.split("\r\n").filter_map(|line| line.split_once(": "));
    let length = lines.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    Some(head + length.and_then(|(_, length)| length.parse::<usize>().ok()).unwrap_or(0))
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    wanted.is_empty() || bytes.windows(wanted.len()).any(|window| window == wanted)
}
