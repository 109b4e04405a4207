//! Clients of HTTP/2, with several requests beside each other on each connection.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::client::{ResponseFuture, handshake};
use http::Request;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::{Books, Place, Proof, hold, next, rate, told};

const CONNECTIONS: u64 = 8;

#[tokio::test]
async fn no_request_is_lost_over_http2() {
    hold(Proof::new("R9f", "SIGTERM under load over HTTP/2, with clients that repeat nothing"), |place, books| {
        (0..CONNECTIONS).map(|_| client(place.clone(), Arc::clone(&books))).collect()
    })
    .await;
}

async fn client(place: Place, books: Arc<Books>) {
    let mut tasks = JoinSet::new();
    while !books.is_over() {
        let Ok(stream) = TcpStream::connect(place.address).await else {
            books.turned_away();
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        stream.set_nodelay(true).unwrap();
        // Whoever is accepted and told to leave at once has asked nothing.
        let Ok((sender, connection)) = handshake(stream).await else { continue };
        tasks.spawn(async move {
            let _ = connection.await;
        });
        let mut sender = Some(sender);
        let mut due = Instant::now();
        while let Some(waits) = sender.take() {
            due = next(due, Duration::from_micros(fastrand::u64(..=2 * 1_000_000 * CONNECTIONS / rate())));
            sleep_until(due).await;
            if books.is_over() {
                break;
            }
            // It is, until the connection has ended or was told to.
            let Ok(mut ready) = waits.ready().await else { break };
            let number = books.next();
            let uri = format!("http://localhost/{number}");
            match ready.send_request(Request::get(uri).body(()).unwrap(), true) {
                Ok((response, _)) => {
                    let books = Arc::clone(&books);
                    tasks.spawn(hear(number, response, books));
                }
                Err(_) => {
                    books.late();
                    break;
                }
            }
            sender = Some(ready);
        }
    }
    while let Some(ended) = tasks.join_next().await {
        told(ended);
    }
}

async fn hear(number: u64, response: ResponseFuture, books: Arc<Books>) {
    match whole(response).await {
        Ok(body) => {
            assert_eq!(body, format!("/{number}"));
            books.answered(number);
        }
        // RFC 9113, 6.8: a GOAWAY in good order names the last stream that was looked at. This is none of those, and the
        // API's log is asked whether that is true. It happens where this process is slow: h2 acknowledges a GOAWAY first,
        // and then sends the requests that it was given before.
        Err(error) if error.is_go_away() && error.is_remote() && error.reason() == Some(h2::Reason::NO_ERROR) => {
            books.late();
        }
        Err(error) => books.lost(number, &error),
    }
}

async fn whole(response: ResponseFuture) -> Result<Bytes, h2::Error> {
    let response = response.await?;
    assert_eq!(response.status(), 200);
    let mut body = response.into_body();
    let mut whole = Vec::new();
    while let Some(data) = body.data().await {
        let data = data?;
        let _ = body.flow_control().release_capacity(data.len());
        whole.extend_from_slice(&data);
    }
    Ok(whole.into())
}
