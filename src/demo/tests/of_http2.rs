//! The API by HTTP/2: by ALPN and by prior knowledge, with trailers both ways.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Version};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};

use super::*;
use crate::demo::answer::{Answer, Piece};
use crate::tls::H2;

type Body = http_body_util::combinators::WithTrailers<
    Full<Bytes>,
    std::future::Ready<Option<Result<HeaderMap, std::convert::Infallible>>>,
>;

async fn connect(io: impl hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static) -> SendRequest<Body> {
    let (sender, connection) = handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    sender
}

fn trailers(value: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(http::HeaderName::from_static("x-end"), HeaderValue::from_static(value))])
}

fn post(uri: String) -> Request<Body> {
    let body = Full::new(Bytes::from_static(b"hello")).with_trailers(std::future::ready(Some(Ok(trailers("app")))));
    Request::post(uri).body(body).unwrap()
}

#[tokio::test]
async fn it_is_offered_by_alpn_and_carries_trailers_both_ways() {
    let ca = Ca::new().unwrap();
    let settings =
        api::Settings { tls: Some(Arc::new(ca.server(NAMES).unwrap())), http2: Some(7), ..api::Settings::plain() };
    let api = Api::start(settings).await.unwrap();
    let mut config = ca.client().unwrap();
    config.alpn_protocols = vec![H2.to_vec(), b"http/1.1".to_vec()];
    let tcp = TcpStream::connect(api.addr()).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let tls = TlsConnector::from(Arc::new(config)).connect(name, tcp).await.unwrap();
    assert_eq!(tls.get_ref().1.alpn_protocol(), Some(H2));
    let mut sender = connect(TokioIo::new(tls)).await;

    api.script().push(Answer::status(200).body("bye").piece(Piece::Trailers(trailers("api"))));
    let answer = sender.send_request(post(format!("{}/a?b", api.url()))).await.unwrap();
    let answer = answer.into_body().collect().await.unwrap();
    assert_eq!(answer.trailers(), Some(&trailers("api")));
    assert_eq!(answer.to_bytes(), "bye");
    let seen = &api.requests()[0];
    assert_eq!((seen.version, seen.target.as_str(), seen.body_len), (Version::HTTP_2, "/a?b", 5));
    assert_eq!(seen.host.as_deref(), Some(&api.url()["https://".len()..]));
    assert_eq!(seen.trailers, Some(trailers("app")));

    api.script().push(Answer::close());
    let error = sender.send_request(post(format!("{}/", api.url()))).await.unwrap_err();
    assert!(format!("{error:?}").contains("INTERNAL_ERROR"), "{error:?}");
    assert!(sender.send_request(post(format!("{}/", api.url()))).await.is_ok(), "a reset ends one stream");
    assert_eq!(api.counts().accepted(), 1);
}

#[tokio::test]
async fn without_tls_it_is_prior_knowledge() {
    let api = Api::start(api::Settings { http2: Some(7), ..api::Settings::plain() }).await.unwrap();
    let mut sender = connect(TokioIo::new(TcpStream::connect(api.addr()).await.unwrap())).await;
    let answer = sender.send_request(post(format!("{}/x", api.url()))).await.unwrap();
    let echo: Value = serde_json::from_slice(&answer.into_body().collect().await.unwrap().to_bytes()).unwrap();
    assert_eq!((&echo["path"], &echo["body_length"]), (&json!("/x"), &json!(5)));
}
