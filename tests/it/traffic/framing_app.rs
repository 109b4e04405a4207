//! Framing towards the app over several messages. What single messages may look like is in `tests/corpus`.

use super::targets;
use crate::support::{Options, Rig};

#[tokio::test]
async fn requests_in_one_go_are_answered_in_order() {
    let rig = Rig::ready(Options::default()).await;
    let mut app = rig.app().await;
    let mut all = String::new();
    for number in 0..20 {
        let path = if number % 5 == 4 { "../" } else { "" };
        all += &format!("POST /{path}{number} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\nab");
        all += &format!("GET /get{number} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    }
    app.send(all).await;
    let mut expected = Vec::new();
    for number in 0..20 {
        let answer = app.answer().await;
        if number % 5 == 4 {
            assert_eq!(answer.reason(), "bad_path");
            // Its body is known to be there, so nothing forces an end; whatever is served is served in order.
        } else {
            assert_eq!(answer.json()["path"], format!("/{number}"));
            expected.push(format!("/{number}"));
        }
        assert_eq!(app.answer().await.json()["path"], format!("/get{number}"));
        expected.push(format!("/get{number}"));
    }
    assert_eq!(targets(&rig), expected);
}
