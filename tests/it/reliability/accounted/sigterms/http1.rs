//! Clients of HTTP/1.1: most keep a connection busy, some keep one and seldom use it, and some want a new one each time.

use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, sleep_until};

use super::{Books, Proof, hold, next, rate};

/// Keep a connection busy; together they make the rate.
const STEADY: u64 = 32;

/// Keep a connection, and leave it idle for longer than bearerd waits for them at the end.
const SELDOM: u64 = 16;

/// Want a connection for each request.
const FRESH: u64 = 4;

#[tokio::test]
async fn no_request_is_lost_over_tcp() {
    hold(Proof::new("R9", "SIGTERM under load over TCP, with clients that repeat nothing"), |place, books| {
        all(&books, move || {
            let address = place.address;
            async move {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                Ok(stream)
            }
        })
    })
    .await;
}

#[tokio::test]
async fn no_request_is_lost_over_a_unix_socket() {
    hold(Proof::new("R9e", "the same over a unix socket"), |place, books| {
        all(&books, move || {
            let file = place.file.clone();
            async move { UnixStream::connect(file).await }
        })
    })
    .await;
}

type Client = Pin<Box<dyn Future<Output = ()> + Send>>;

fn all<S, F>(books: &Arc<Books>, connect: impl Fn() -> F + Clone + Send + 'static) -> Vec<Client>
where
    S: AsyncRead + AsyncWrite + AsFd + Unpin + Send + 'static,
    F: Future<Output = io::Result<S>> + Send + 'static,
{
    let pace = |most: u64| Box::new(move || Duration::from_micros(fastrand::u64(..=most)));
    let mut clients: Vec<Client> = Vec::new();
    for _ in 0..STEADY {
        // Half of the most on average.
        let pauses = pace(2 * 1_000_000 * STEADY / rate());
        clients.push(Box::pin(client(connect.clone(), pauses, true, Arc::clone(books))));
    }
    for _ in 0..SELDOM {
        clients.push(Box::pin(client(connect.clone(), pace(1_500_000), true, Arc::clone(books))));
    }
    for _ in 0..FRESH {
        clients.push(Box::pin(client(connect.clone(), pace(40_000), false, Arc::clone(books))));
    }
    clients
}

/// Makes one request after the other until it is told that all is over.
async fn client<S, F>(connect: impl Fn() -> F, pause: impl Fn() -> Duration, keeps: bool, books: Arc<Books>)
where
    S: AsyncRead + AsyncWrite + AsFd + Unpin,
    F: Future<Output = io::Result<S>>,
{
    let mut kept: Option<S> = None;
    let mut due = Instant::now();
    while !books.is_over() {
        let mut stream = match kept.take() {
            Some(stream) => stream,
            None => match connect().await {
                Ok(stream) => stream,
                Err(_) => {
                    books.turned_away();
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    continue;
                }
            },
        };
        due = next(due, pause());
        if keeps {
            sleep_until(due).await;
        }
        if has_ended(&stream) {
            continue;
        }
        let number = books.next();
        let close = if keeps { "" } else { "Connection: close\r\n" };
        let request = format!("GET /{number} HTTP/1.1\r\nHost: localhost\r\n{close}\r\n");
        // It fits into any buffer: all of it is taken, or nothing.
        if stream.write_all(request.as_bytes()).await.is_err() {
            books.late();
            continue;
        }
        let was_late = has_ended(&stream);
        match answer(&mut stream).await {
            Ok((body, closes)) => {
                assert_eq!(body, format!("/{number}"));
                books.answered(number);
                kept = Some(stream).filter(|_| keeps && !closes);
            }
            Err(_) if was_late => books.late(),
            Err(error) => books.lost(number, &error),
        }
        if !keeps {
            sleep_until(due).await;
        }
    }
}

/// Whether the other side has ended the connection, as the kernel has it at this moment. A reset without an end before it
/// is none: that is what a connection gets which nobody ever accepted.
fn has_ended(stream: &impl AsFd) -> bool {
    let mut byte = [0; 1];
    match recv(stream, &mut byte, RecvFlags::PEEK | RecvFlags::DONTWAIT) {
        Ok((_, length)) => length == 0,
        Err(error) => error == Errno::PIPE,
    }
}

/// The body of a whole answer, which is a 200, and whether the connection ends behind it.
async fn answer(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<(String, bool)> {
    let mut came = Vec::new();
    loop {
        if let Some(end) = came.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8(came[..end].to_vec()).unwrap().to_ascii_lowercase();
            assert!(head.starts_with("http/1.1 200 "), "{head} {}", came[end..].escape_ascii());
            let value = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
            let length: usize = value("content-length:").unwrap().parse().unwrap();
            if let Some(body) = came.get(end + 4..end + 4 + length) {
                return Ok((String::from_utf8(body.to_vec()).unwrap(), value("connection:") == Some("close")));
            }
        }
        if stream.read_buf(&mut came).await? == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("after {}", came.escape_ascii())));
        }
    }
}
