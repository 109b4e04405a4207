//! Where an answer says that something is: an app with a base URL is led back to us, and nobody is led anywhere by us.

use bearerd::demo::answer::Answer;

use super::{rig_with, route, targets};
use crate::support::{API, Rig};

async fn rig() -> Rig {
    rig_with(|rig| {
        let stripped = route(rig, "stripped", "/stripped", "match: {path: /s}\nstrip_prefix: true");
        format!("routes:\n{}{stripped}", route(rig, "api", "/base", ""))
    })
    .await
}

async fn led(rig: &Rig, path: &str, place: &str) -> [String; 3] {
    let link = format!("<{place}>; rel=\"next\", <https://other.test/x>");
    rig.api
        .script()
        .push(Answer::status(302).header("location", place).header("content-location", place).header("link", &link));
    let host = if path.starts_with("http") { API.to_owned() } else { rig.proxy.address.to_string() };
    let answer = rig.app().await.ask(&format!("GET {path} HTTP/1.1\nHost: {host}")).await;
    assert_eq!(answer.status, 302);
    ["location", "content-location", "link"].map(|name| answer.header(name).unwrap().to_owned())
}

#[tokio::test]
async fn places_at_the_upstream_are_ours_and_others_are_theirs() {
    let rig = rig().await;
    for (path, place, expected) in [
        ("/x", format!("https://{API}/base/y?z#w"), "/y?z#w".to_owned()),
        ("/x", format!("http://{API}/base"), "/".to_owned()),
        ("/x", "/base/y".to_owned(), "/y".to_owned()),
        ("/x", "/login".to_owned(), format!("https://{API}/login")),
        ("/x", format!("https://{API}/login"), format!("https://{API}/login")),
        ("/x", "https://other.test/base/y".to_owned(), "https://other.test/base/y".to_owned()),
        ("/x", "y".to_owned(), "y".to_owned()),
        ("/s/x", format!("https://{API}/stripped/y"), "/s/y".to_owned()),
        // An app that named the API itself means the API.
        (&format!("http://{API}/base/x"), format!("https://{API}/base/y"), format!("https://{API}/base/y")),
        (&format!("http://{API}/base/x"), "/base/y".to_owned(), "/base/y".to_owned()),
    ] {
        let link = format!("<{expected}>; rel=\"next\", <https://other.test/x>");
        assert_eq!(led(&rig, path, &place).await, [expected.clone(), expected, link], "{path} {place}");
    }
}

#[tokio::test]
async fn a_redirect_is_never_followed() {
    let rig = rig().await;
    for status in [301, 302, 303, 307, 308] {
        rig.api.log().clear();
        rig.api.script().push(Answer::status(status).header("location", "/base/elsewhere"));
        assert_eq!(rig.get("/x").await.status, status);
        assert_eq!(targets(&rig), ["/base/x"]);
    }
}
