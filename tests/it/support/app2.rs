//! An app that speaks HTTP/2 by prior knowledge, or over whatever agreed on it. What frames it sends is hyper's business;
//! who wants to choose them writes them by hand (`traffic::frames`).

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::{Answer, PATIENCE};

/// What a request may have for a body.
pub(crate) type AnyBody = UnsyncBoxBody<Bytes, std::io::Error>;

/// One connection. Requests may be made beside each other: by clones of the sender.
pub(crate) struct App2 {
    pub(crate) sender: SendRequest<AnyBody>,
    host: String,
    connection: JoinHandle<hyper::Result<()>>,
}

pub(crate) fn full(bytes: impl Into<Bytes>) -> AnyBody {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

impl App2 {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self::over(stream, &address).await
    }

    /// Speaks over what is connected already.
    pub(crate) async fn over(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, host: &impl ToString) -> Self {
        Self::with(Builder::new(TokioExecutor::new()), io, host).await
    }

    /// The same, with settings of the test's own.
    pub(crate) async fn with(
        builder: Builder<TokioExecutor>,
        io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        host: &impl ToString,
    ) -> Self {
        let (sender, connection) = builder.handshake(TokioIo::new(io)).await.unwrap();
        Self { sender, host: host.to_string(), connection: tokio::spawn(connection) }
    }

    /// A request as [`super::App::ask`] takes it, in lines: `GET /path`, with or without a version, and headers. Host is
    /// the authority.
    pub(crate) fn request(&self, head: &str, body: AnyBody) -> Request<AnyBody> {
        let mut lines = head.lines();
        let mut words = lines.next().unwrap().split(' ');
        let (method, path) = (words.next().unwrap(), words.next().unwrap());
        let mut request = Request::new(body);
        *request.method_mut() = method.parse().unwrap();
        let mut host = self.host.as_str();
        for line in lines {
            let (name, value) = line.split_once(':').unwrap();
            match name.to_ascii_lowercase().as_str() {
                "host" => host = value.trim(),
                name => {
                    let name: http::HeaderName = name.parse().unwrap();
                    request.headers_mut().append(name, value.trim().parse().unwrap());
                }
            }
        }
        let uri = http::Uri::builder().scheme("http").authority(host).path_and_query(path);
        *request.uri_mut() = uri.build().unwrap();
        request
    }

    /// Sends a head, without a body, and reads the answer.
    pub(crate) async fn ask(&mut self, head: &str) -> Answer {
        self.ask_with(head, "").await
    }

    pub(crate) async fn get(&mut self, path: &str) -> Answer {
        self.ask(&format!("GET {path}")).await
    }

    /// The same with a body, of a length that is known.
    pub(crate) async fn ask_with(&mut self, head: &str, body: impl Into<Bytes>) -> Answer {
        let response = self.send(self.request(head, full(body))).await.unwrap();
        whole(response).await.0
    }

    /// The head of the answer to any request, within the time that tests have.
    pub(crate) async fn send(&mut self, request: Request<AnyBody>) -> hyper::Result<Response<Incoming>> {
        let answering = async {
            self.sender.ready().await?;
            self.sender.send_request(request).await
        };
        tokio::time::timeout(PATIENCE, answering).await.expect("an answer in time")
    }

    /// How the connection ends, which it has to; an error is a reset, or a GOAWAY with another reason than none.
    pub(crate) async fn ends(self) -> hyper::Result<()> {
        // Dropped, the sender would end it.
        let _sender = self.sender;
        tokio::time::timeout(PATIENCE, self.connection).await.expect("open still").unwrap()
    }
}

/// Reads an answer to its end, whichever it is, and its trailers.
pub(crate) async fn whole(response: Response<Incoming>) -> (Answer, Option<HeaderMap>) {
    let text = |value: &http::HeaderValue| value.as_bytes().iter().map(|byte| char::from(*byte)).collect::<String>();
    let mut answer = Answer {
        status: response.status().as_u16(),
        headers: response.headers().iter().map(|(name, value)| (name.to_string(), text(value))).collect(),
        body: Vec::new(),
        complete: true,
    };
    let (mut body, mut trailers) = (response.into_body(), None);
    let reading = async {
        while let Some(frame) = body.frame().await {
            match frame.map(http_body::Frame::into_data) {
                Ok(Ok(data)) => answer.body.extend_from_slice(&data),
                Ok(Err(frame)) => trailers = frame.into_trailers().ok(),
                Err(_) => {
                    answer.complete = false;
                    return;
                }
            }
        }
        // To hyper a reset without a reason is an end like any other (RST_STREAM, NO_ERROR).
        answer.complete = body.is_end_stream();
    };
    tokio::time::timeout(PATIENCE, reading).await.expect("the end of an answer in time");
    (answer, trailers)
}
