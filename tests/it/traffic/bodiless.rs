//! Answers that have no body, and say what it would be: to HEAD, 204 and 304, over every pair of versions.

use bearerd::demo::answer::Answer;
use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;

use super::rig_with;
use crate::support::{Options, Rig};

/// What each path is answered with.
fn answer(path: &str) -> (u16, &'static str) {
    match path {
        "/204" => (204, ""),
        "/304" => (304, "5"),
        _ => (200, "120"),
    }
}

/// An API of HTTP/2 that ends an answer with its head.
async fn over_http2(request: Request<Incoming>) -> Result<Response<Empty<Bytes>>, std::convert::Infallible> {
    let (status, length) = answer(request.uri().path());
    let mut response = Response::new(Empty::new());
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response.headers_mut().insert("etag", HeaderValue::from_static("\"1\""));
    if !length.is_empty() {
        response.headers_mut().insert("content-length", HeaderValue::from_static(length));
    }
    Ok(response)
}

async fn rig(is_http2: bool) -> Rig {
    if !is_http2 {
        let rig = Rig::ready(Options::default()).await;
        rig.api.script().when(|head| {
            let (status, length) = answer(head.uri.path());
            let length = if length.is_empty() { String::new() } else { format!("Content-Length: {length}\r\n") };
            Some(Answer::raw(format!("HTTP/1.1 {status} X\r\nETag: \"1\"\r\n{length}\r\n")))
        });
        return rig;
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let serving = http2::Builder::new(TokioExecutor::new());
            tokio::spawn(serving.serve_connection(TokioIo::new(stream), service_fn(over_http2)));
        }
    });
    rig_with(|_| format!("routes:\n  - {{upstream: 'http://{address}', token: main, http: http2}}\n")).await
}

#[tokio::test]
async fn what_is_said_of_a_body_that_is_not_there_arrives() {
    for is_http2 in [false, true] {
        let rig = rig(is_http2).await;
        for (method, path) in [("HEAD", "/200"), ("HEAD", "/304"), ("GET", "/304"), ("GET", "/204"), ("HEAD", "/204")] {
            let (status, length) = answer(path);
            let length = Some(length).filter(|length| !length.is_empty());
            let mut app = rig.app().await;
            app.send(app.head(&format!("{method} {path} HTTP/1.1"))).await;
            let old = app.answer_to_head().await;
            // hyper leaves the length of a 304 out over HTTP/1, but for HEAD.
            let left = length.filter(|_| method == "HEAD" || status != 304);
            let new = rig.app2().await.ask(&format!("{method} {path}")).await;
            for (answer, length) in [(&old, left), (&new, length)] {
                let case = format!("{method} {path} from HTTP/{}: {answer:?}", if is_http2 { 2 } else { 1 });
                assert_eq!((answer.status, answer.complete, answer.body.len()), (status, true, 0), "{case}");
                assert_eq!((answer.header("content-length"), answer.header("etag")), (length, Some("\"1\"")), "{case}");
                assert_eq!(answer.header("transfer-encoding"), None, "{case}");
            }
            // The connection goes on where it should.
            if !is_http2 {
                continue;
            }
            app.send(app.head("HEAD /200 HTTP/1.1")).await;
            assert_eq!(app.answer_to_head().await.status, 200);
        }
    }
}
