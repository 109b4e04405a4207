//! A corporate proxy: answers every request for a tunnel in the same words, and notes what it could read.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

pub(crate) struct Corporate {
    pub(crate) address: SocketAddr,
    /// Every byte that it was sent until the blank line.
    pub(crate) heads: Arc<Mutex<Vec<String>>>,
}

impl Corporate {
    /// Answers like this, and then leads to `to` if there is such a place.
    pub(crate) async fn start(answer: &'static str, to: Option<SocketAddr>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let heads = Arc::<Mutex<Vec<String>>>::default();
        let noted = Arc::clone(&heads);
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let noted = Arc::clone(&noted);
                tokio::spawn(async move {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        head.push(client.read_u8().await.unwrap());
                    }
                    noted.lock().unwrap().push(String::from_utf8(head).unwrap());
                    let Some(to) = to else {
                        let _ = client.write_all(answer.as_bytes()).await;
                        return;
                    };
                    let mut server = TcpStream::connect(to).await.unwrap();
                    client.write_all(answer.as_bytes()).await.unwrap();
                    let _ = copy_bidirectional(&mut client, &mut server).await;
                });
            }
        });
        Self { address, heads }
    }
}
