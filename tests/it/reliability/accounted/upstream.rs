//! An API that does to a request whatever a proof tells it to, and keeps the books.
//!
//! Must never serve a request whose credential is not good.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustls::ServerConfig;
use tokio::net::TcpListener;

use super::books::{Balance, Books, Credential};
use super::world::World;
use crate::reliability::wire::{Api, Wire, listen};

/// Between two parts of an answer.
pub(super) const MOMENT: Duration = Duration::from_millis(2);

/// What becomes of a request.
#[derive(Clone, Debug)]
pub(super) enum Act {
    /// 200 with its own target, after so long.
    Serve(Duration),
    /// The same, and this is one less as soon as it is about to be sent.
    ServeOneOf(Duration, Arc<AtomicU64>),
    /// 200 with its own target at once, in three parts with a moment in between: the head, and two of the body.
    ServeInParts,
    /// 200 with its own target, and then the connection ends by FIN.
    ServeAndEnd,
    /// A 401, as if the token were no good.
    Refuse,
    /// A 200 of which some is missing when the connection ends.
    Cut { chunked: bool, rudely: bool },
}

impl Act {
    pub(super) const SERVE: Self = Self::Serve(Duration::ZERO);
}

/// One on plain TCP, or with TLS.
pub(super) async fn upstream(
    books: &Arc<Books>,
    tls: Option<Arc<ServerConfig>>,
    act: impl Fn() -> Act + Send + Sync + 'static,
) -> Api {
    upstream_on(listen(), books, tls, act)
}

/// The same where a proof has it.
pub(super) fn upstream_on(
    listener: TcpListener,
    books: &Arc<Books>,
    tls: Option<Arc<ServerConfig>>,
    act: impl Fn() -> Act + Send + Sync + 'static,
) -> Api {
    let (books, act) = (Arc::clone(books), Arc::new(act));
    Api::on(listener, move |wire| {
        let (books, act, tls) = (Arc::clone(&books), Arc::clone(&act), tls.clone());
        async move {
            let wire = match tls {
                Some(tls) => wire.shake_hands(tls).await,
                None => Ok(wire),
            };
            // Whoever leaves within a handshake has left.
            if let Ok(wire) = wire {
                serve(wire, &books, &*act).await;
            }
        }
    })
}

async fn serve(mut wire: Wire, books: &Books, act: &(impl Fn() -> Act + Sync)) {
    // Whoever leaves between two requests, or within one, has left.
    while let Ok(Some(head)) = wire.head().await {
        let credential = books.arrived(&head);
        if wire.body(&head).await.is_err() {
            return;
        }
        let act = if credential == Credential::Good { act() } else { Act::Refuse };
        let own = head.target().to_owned();
        let full = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{own}", own.len());
        let sent = match act {
            Act::Serve(after) => {
                tokio::time::sleep(after).await;
                wire.send(full.as_bytes()).await
            }
            Act::ServeOneOf(after, under_way) => {
                tokio::time::sleep(after).await;
                under_way.fetch_sub(1, Ordering::Relaxed);
                wire.send(full.as_bytes()).await
            }
            Act::ServeInParts => {
                let (head, body) = full.split_at(full.len() - own.len());
                let (body, rest) = body.split_at(own.len() / 2);
                let mut sent = Ok(());
                for part in [head, body, rest] {
                    sent = sent.and(wire.send(part.as_bytes()).await);
                    tokio::time::sleep(MOMENT).await;
                }
                sent
            }
            Act::ServeAndEnd => {
                let _ = wire.send(full.as_bytes()).await;
                return wire.finish(false).await;
            }
            Act::Refuse => {
                let challenge = "WWW-Authenticate: Bearer error=\"invalid_token\"";
                wire.send(format!("HTTP/1.1 401 Unauthorized\r\n{challenge}\r\nContent-Length: 0\r\n\r\n").as_bytes())
                    .await
            }
            Act::Cut { chunked, rudely } => {
                let head =
                    if chunked { "Transfer-Encoding: chunked\r\n\r\n40\r\n" } else { "Content-Length: 64\r\n\r\n" };
                let _ = wire.send(format!("HTTP/1.1 200 OK\r\n{head}some of it").as_bytes()).await;
                if rudely {
                    // What was sent is thrown away by a reset, if the other side has not read it.
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    return reset(&wire);
                }
                return wire.finish(false).await;
            }
        };
        if sent.is_err() {
            return;
        }
    }
}

/// By RST instead of FIN, once it is dropped.
fn reset(wire: &Wire) {
    let _ = socket2::SockRef::from(wire.tcp()).set_linger(Some(Duration::ZERO));
}

/// The proofs are worth what the books see: each thing that may not be, done by hand.
#[tokio::test]
async fn the_books_see_what_is_wrong() {
    let world = World::new(2, Duration::from_secs(3_600)).await;
    let audience = "https://api.example.test";
    let token = |client: &str, life| world.provider.mint(client, audience, life).unwrap();
    let good = token("t0", Duration::from_secs(60));
    let line = |token: &str| format!("Authorization: Bearer {token}\r\n");
    let forged = format!("{}x{}", &good[..40], &good[41..]);
    let api = upstream(&world.books, None, || Act::SERVE).await;
    let mut wire = Wire::connect(api.address).await;
    let mut ask = async |number: u64, credentials: &str| {
        let head = format!("GET /t0/{number} HTTP/1.1\r\nHost: localhost\r\n{credentials}\r\n");
        wire.send(head.as_bytes()).await.unwrap();
        let head = wire.head().await.unwrap().unwrap();
        wire.body(&head).await.unwrap();
        head.status()
    };
    let said = [
        (line(&good), 200),
        (String::new(), 401),
        (line(&good) + &line(&good), 401),
        (line(&forged), 401),
        (line(&token("t1", Duration::from_secs(60))), 401),
        (line(&token("t0", Duration::ZERO)), 401),
    ];
    for (credentials, status) in said {
        let number = world.books.ask();
        assert_eq!(ask(number, &credentials).await, status, "{number}");
        world.books.answered(number, status, true);
    }
    let [twice, mixed, unasked, broken, _open] = std::array::from_fn(|_| world.books.ask());
    for number in [twice, twice, mixed] {
        assert_eq!(ask(number, &line(&good)).await, 200);
    }
    world.books.answered(twice, 200, true);
    world.books.answered(mixed, 200, false);
    world.books.answered(unasked, 200, true);
    world.books.broken(broken);
    let balance = world.books.balance();
    let Balance { asked, served, mixed, broken, turned_away, open, unasked, doubled, most_arrivals, .. } = balance;
    assert_eq!((asked, served, mixed, broken, turned_away, open), (11, 3, 1, 1, 0, 1), "{balance:?}");
    assert_eq!((unasked, doubled, most_arrivals, balance.other[&401]), (1, 1, 2, 5), "{balance:?}");
    assert_eq!((balance.uncredited, balance.foreign, balance.expired), (3, 1, 1), "{balance:?}");
}
