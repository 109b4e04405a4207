//! Sits between the app and the proxy and notes the head of each connection's first request, as the app sent it.
//!
//! What goes through is passed on byte for byte. Must never know what the proxy makes of it.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use super::log::Log;

/// A longer head is not worth showing.
const MOST: usize = 8 * 1024;

/// Passes connections on and remembers how they began.
pub struct Tap {
    /// First heads, in order, each ending in an empty line.
    pub heads: Arc<Log<String>>,
}

impl Tap {
    /// Accepts on `listener` and passes on to `to`, on the current runtime, for as long as that lives.
    pub fn start(listener: TcpListener, to: SocketAddr) -> Self {
        let heads = Arc::new(Log::new());
        let noted = Arc::clone(&heads);
        tokio::spawn(async move {
            while let Ok((app, _)) = listener.accept().await {
                let noted = Arc::clone(&noted);
                // How a connection ends is between its two ends.
                tokio::spawn(async move { drop(pass(app, to, &noted).await) });
            }
        });
        Self { heads }
    }
}

async fn pass(mut app: TcpStream, to: SocketAddr, noted: &Log<String>) -> std::io::Result<()> {
    let mut proxy = TcpStream::connect(to).await?;
    let mut head = Vec::new();
    while head.len() < MOST && !head.windows(4).any(|four| four == b"\r\n\r\n") {
        let before = head.len();
        if app.read_buf(&mut head).await? == 0 {
            break;
        }
        proxy.write_all(&head[before..]).await?;
    }
    let end = head.windows(4).position(|four| four == b"\r\n\r\n").map_or(head.len(), |start| start + 4);
    noted.push(String::from_utf8_lossy(&head[..end]).into_owned());
    copy_bidirectional(&mut app, &mut proxy).await?;
    Ok(())
}
