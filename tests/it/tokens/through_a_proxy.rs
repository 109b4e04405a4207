//! A provider that is reached through a corporate proxy, which is asked for a tunnel and sees nothing.

use super::Bench;
use crate::support::{Corporate, SECRET};

#[tokio::test]
async fn a_token_is_asked_for_through_a_tunnel() {
    let bench = Bench::new().await;
    let provider = bench.provider.addr();
    let proxy = Corporate::start("HTTP/1.1 200 OK\r\n\r\n", Some(provider)).await;
    let rig = bench.start(&format!("proxy: http://{}\n", proxy.address));
    rig.proxy.until_ready().await;
    assert_eq!(rig.get("/").await.status, 200);
    let heads = proxy.heads.lock().unwrap();
    assert_eq!(heads.len(), 1, "the API is reached without it: {heads:?}");
    assert!(heads[0].starts_with(&format!("CONNECT localhost:{} HTTP/1.1\r\n", provider.port())), "{heads:?}");
    assert!(!heads[0].contains(SECRET) && !heads[0].to_lowercase().contains("\r\nauthorization:"), "{heads:?}");
}
