//! A provider that is reached through a corporate proxy, which is asked for a tunnel and sees nothing.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use super::Bench;
use crate::support::SECRET;

/// Everything that the proxy could read: the heads of the requests for tunnels.
async fn tunnels() -> (std::net::SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let heads = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&heads);
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let noted = Arc::clone(&noted);
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(client.read_u8().await.unwrap());
                }
                let head = String::from_utf8(head).unwrap();
                let place = head.split(' ').nth(1).unwrap().replace("localhost", "127.0.0.1");
                noted.lock().unwrap().push(head);
                let mut server = TcpStream::connect(place).await.unwrap();
                client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
                let _ = copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    (address, heads)
}

#[tokio::test]
async fn a_token_is_asked_for_through_a_tunnel() {
    let (proxy, heads) = tunnels().await;
    let bench = Bench::new().await;
    let provider = bench.provider.addr();
    let rig = bench.start(&format!("proxy: http://{proxy}\n"));
    rig.proxy.until_ready().await;
    assert_eq!(rig.get("/").await.status, 200);
    let heads = heads.lock().unwrap();
    assert_eq!(heads.len(), 1, "the API is reached without it: {heads:?}");
    assert!(heads[0].starts_with(&format!("CONNECT localhost:{} HTTP/1.1\r\n", provider.port())), "{heads:?}");
    assert!(!heads[0].contains(SECRET) && !heads[0].to_lowercase().contains("\r\nauthorization:"), "{heads:?}");
}
