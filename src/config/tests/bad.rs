//! Documents with something wrong, and exactly what is said about each.

use super::{Given, ROUTE, TOKEN, good_document};

#[track_caller]
fn told(document: &str, expected: &[&str]) {
    assert_eq!(Given::document(document).problems(), expected, "\n{document}");
}

/// A document that is good but for one more line.
#[track_caller]
fn told_with(line: &str, expected: &[&str]) {
    told(&format!("{line}\n{}", good_document()), expected);
}

/// A document whose one route has more keys.
#[track_caller]
fn told_in_route(keys: &str, expected: &[&str]) {
    told(&format!("{TOKEN}routes:\n- upstream: https://api.example.com\n  {keys}\n"), expected);
}

/// A document whose one token has more keys.
#[track_caller]
fn told_in_token(keys: &str, expected: &[&str]) {
    told(
        &format!(
            "{ROUTE}tokens:\n  a:\n    token_url: https://id.example.com/t\n    client_id: c\n    client_secret: {{file: secret}}\n    {keys}\n"
        ),
        expected,
    );
}

#[test]
fn a_placeholder_is_at_one_path_of_one_route_that_takes_it() {
    for (path, what) in [
        ("token", "a path starts with `/`"),
        ("/token?x", "a path to answer has no query and no fragment"),
        ("/a//b", "the path has an empty segment (`//`)"),
        ("/a/../b", "the path has a dot segment or an encoded dot"),
        ("/a b", "the path has a character that must be percent-encoded"),
    ] {
        told_in_route(&format!("stub_token: '{path}'"), &[&format!("4:15: routes[0].stub_token: {what}")]);
    }
    told_in_route(
        "authorization: reject\n  stub_token: /token",
        &["5:15: routes[0].stub_token: `authorization: reject` would refuse the placeholder when it is used"],
    );
    let two = |first: &str, second: &str| {
        format!(
            "{TOKEN}routes:\n- {{upstream: 'https://a.example', stub_token: {first}}}\n\
             - {{upstream: 'https://b.example', match: {{path: /b}}, stub_token: {second}}}\n"
        )
    };
    told(&two("/token", "/token"), &["4:66: routes[1].stub_token: the route `a.example` answers this path already"]);
    Given::document(&two("/token", "/token/")).good();
    Given::document(&two("/token", "/token").replace("{path: /b}", "{host: b.example}")).good();
}

#[test]
fn ten_problems_are_ten_lines_in_order_of_place() {
    told(
        "\
listen: 0.0.0.0:80
workers: 65
tokens:
  a:
    tokenurl: https://id.example.com/t
    client_id: [x]
    client_secret: {exec: [cat, x]}
    refresh: {early: 95%}
routes:
- name: one
  upstream: ftp://api.example.com
  timeouts: {conect: 5s, headers: 5}
  token: b
- upstream: https://api.example.com/a/../b
  match: {path: v2}
",
        &[
            "1:9: listen: other machines can reach this address",
            "2:10: workers: out of range: from 1 to 64",
            "5:5: tokens.a.tokenurl: unknown key (did you mean `token_url`?)",
            "6:16: tokens.a.client_id: expected a string, found a list",
            "7:27: tokens.a.client_secret: the program's path does not start with `/`",
            "8:22: tokens.a.refresh.early: too large: at most `90%`",
            "11:13: routes[0].upstream: the scheme is neither `https` nor `http`",
            "12:14: routes[0].timeouts.conect: unknown key (did you mean `connect`?)",
            "12:35: routes[0].timeouts.headers: a duration needs a unit",
            "13:10: routes[0].token: no token is called that",
            "14:13: routes[1].upstream: the path has a dot segment or an encoded dot",
            "15:17: routes[1].match.path: a path starts with `/`",
        ],
    );
}

#[test]
fn a_name_that_is_told_cannot_move_a_cursor() {
    let document = "tokens: {\"a\\e[2J\": {token_url: 'https://id.example/t', client_id: c, client_secret: {file: secret}}}\nroutes: [{upstream: 'https://a.example', token: b}]\n";
    let problems = Given::document(document).problems();
    assert!(problems.iter().any(|problem| problem.contains("no token is called that")), "{problems:?}");
    let told = Given::document(document).load().unwrap_err().to_string();
    assert!(told.contains("`a\u{fffd}[2J`") && !told.contains('\u{1b}'), "{told:?}");
}

#[test]
fn yaml_that_is_none_has_its_place() {
    told("routes: [\n", &["2:1: not valid YAML: while parsing a node, did not find expected node content"]);
    told("a: b: c\n", &["1:5: not valid YAML: mapping values are not allowed in this context"]);
    told("[a, b]\n", &["1:1: expected a map, found a list"]);
    told("just text\n", &["1:1: expected a map, found a string"]);
    for empty in ["", "\n \n"] {
        let told = Given::document(empty).load().unwrap_err().to_string();
        assert_eq!(
            told,
            "/etc/bearerd/config.yaml: the file is empty\n  hint: `bearerd init PROVIDER` prints one to begin with"
        );
    }
    told("# nothing\n", &["1:1: `routes` is missing"]);
    told(
        &format!("{}---\nlisten: x\n", good_document()),
        &["3:1: a second document begins here, and one is all that is read"],
    );
    told(&format!("{}workers: !int 1\n", good_document()), &["3:10: a YAML tag has no meaning here"]);
    told(&format!("{}? [a, b]\n: c\n", good_document()), &["3:3: a key must be a single word"]);
}

#[test]
fn repeated_keys_are_told_one_by_one() {
    told(
        "workers: 1\nworkers: 2\nlog: {level: info, level: warn}\nroutes: [{upstream: 'https://a.example', token: none, token: x}]\n",
        &[
            "2:1: workers: written twice, the first time in line 1",
            "3:20: log.level: written twice, the first time in line 3",
            "4:55: routes[0].token: written twice, the first time in line 4",
        ],
    );
}

#[test]
fn wrong_kinds_say_what_was_expected() {
    told_with("listen: {adress: 'localhost:1'}", &["1:10: listen.adress: unknown key (did you mean `address`?)"]);
    told_with("listen: []", &["1:9: listen: the list is empty"]);
    told_with("listen:", &["1:1: listen: has no value"]);
    told_with("listen: [{name: x}]", &["1:10: listen[0]: `address` is missing"]);
    told_with("workers: many", &["1:10: workers: expected a whole number or `auto`, found a string"]);
    told_with("workers: '2'", &["1:10: workers: expected a whole number or `auto`, found a string"]);
    told_with("workers: 1.5", &["1:10: workers: expected a whole number or `auto`, found a number"]);
    told_with("log: debug", &["1:6: log: expected a map, found a string"]);
    told_with(
        "log: {level: debgu}",
        &["1:14: log.level: expected `error`, `warn`, `info`, `debug` or `trace` (did you mean `debug`?)"],
    );
    told_with("log: {format: xml}", &["1:15: log.format: expected `auto`, `pretty` or `json`"]);
    told_with("admin: true", &["1:8: admin: expected an address such as `localhost:5280`, found a boolean"]);
    told_with("limits: {connections: 0}", &["1:23: limits.connections: out of range: from 1 to 1000000"]);
    told_with("limits: {header_bytes: 4KiB}", &["1:24: limits.header_bytes: too small: at least `8KiB`"]);
    told_with("limits: {header_bytes: 64kb}", &["1:24: limits.header_bytes: not a size"]);
    told_with("limits: {head: 0s}", &["1:16: limits.head: too short: at least `100ms`"]);
    told_with("shutdown: {timeout: 2h}", &["1:21: shutdown.timeout: too long: at most `1h`"]);
    told_in_route("renew_on: on", &["4:13: routes[0].renew_on: expected `off` or a map, found a string"]);
    told_in_route("renew_on: {statuses: 200}", &["4:24: routes[0].renew_on.statuses: out of range: from 400 to 599"]);
    told_in_route("renew_on: {statuses: []}", &["4:24: routes[0].renew_on.statuses: the list is empty"]);
    told_in_route("strip_prefix: maybe", &["4:17: routes[0].strip_prefix: expected `true` or `false`, found a string"]);
    told_in_route("headers: [a]", &["4:12: routes[0].headers: expected a map of names, found a list"]);
    told(&format!("{TOKEN}routes: [5]\n"), &["2:10: routes[0]: expected a map, found a number"]);
    told(
        "tokens: {a: 5}\nroutes: [{upstream: 'https://a.example', token: a}]\n",
        &["1:13: tokens.a: expected a map, found a number"],
    );
    told(
        "tokens: 5\nroutes: [{upstream: 'https://a.example', token: a}]\n",
        &["1:9: tokens: expected a map of names, found a number"],
    );
    told("routes: {}\n", &["1:9: routes: expected a list, found a map"]);
}

#[test]
fn listeners_stay_on_this_machine_and_apart() {
    told_with("listen: example.com:80", &["1:9: listen: not an address to listen on"]);
    told_with("listen: 4280", &["1:9: listen: not an address to listen on"]);
    told_with("listen: localhost:65536", &["1:9: listen: the port is not a number from 0 to 65535"]);
    told_with("admin: 0.0.0.0:1", &["1:8: admin: other machines can reach this address"]);
    told_with("listen: [{address: '[::]:1'}]", &["1:20: listen[0].address: other machines can reach this address"]);
    told_with(
        "listen: [{address: '192.0.2.1:1', allow_remote: off, tls: {cert_file: ca.pem, key_file: key.pem}}]",
        &["1:20: listen[0].address: other machines can reach this address"],
    );
    told_with("listen: ['localhost:1', '127.0.0.1:1']", &["1:25: listen[1]: the same address as `listen[0]`"]);
    told_with(
        "listen: 'localhost:4281'",
        &["1:9: listen[0]: the same address as `admin`, whose default it is: `localhost:4281`"],
    );
    told_with("health: '0.0.0.0:4280'", &["1:9: health: the same address as `listen[0]`"]);
    told_with("health: '[::]:4281'", &["1:9: health: the same address as `admin`"]);
    told_with(
        "listen: [{name: a, address: 'localhost:1'}, {name: a, address: 'localhost:2'}]",
        &["1:52: listen[1].name: another listener is called `a`"],
    );
    told_in_route("match: {listen: legcy}", &["4:19: routes[0].match.listen: no listener is called that"]);
    told(
        &format!(
            "listen: {{name: legacy, address: 'localhost:1'}}\n{TOKEN}routes: [{{upstream: 'https://a.example', match: {{listen: legcy}}}}]\n"
        ),
        &["3:58: routes[0].match.listen: no listener is called that (did you mean `legacy`?)"],
    );
}

#[test]
fn what_other_machines_reach_speaks_tls_and_knows_its_callers() {
    let needs = "needs `tls.client_ca_file`, or at least one of `callers.clients`";
    told_with(
        "listen: [{address: '0.0.0.0:1', allow_remote: true}]",
        &["1:33: listen[0].allow_remote: needs `tls` beside it"],
    );
    for (key, at) in [("listen", "10: listen"), ("admin", "9: admin")] {
        let line =
            format!("{key}: {{allow_remote: on, address: '0.0.0.0:1', tls: {{cert_file: ca.pem, key_file: key.pem}}}}");
        told_with(&line, &[&format!("1:{at}.allow_remote: {needs}")]);
        told_with(
            &format!("{key}: {{allow_remote: on, address: '0.0.0.0:1'}}"),
            &[&format!("1:{at}.allow_remote: needs `tls` beside it")],
        );
    }
    // It is a promise, whatever the address.
    told_with(
        "listen: [{address: 'localhost:1', allow_remote: on}]",
        &["1:35: listen[0].allow_remote: needs `tls` beside it"],
    );
    told_with(
        "listen: [{address: '0.0.0.0:1', allow_remote: on, tls: {cert_file: ca.pem, client_ca_file: gone.pem, x: 1}}]",
        &[
            "1:56: listen[0].tls: `key_file` is missing",
            "1:92: listen[0].tls.client_ca_file: `/etc/bearerd/gone.pem` does not exist",
            "1:102: listen[0].tls.x: unknown key",
        ],
    );
    told_with("listen: [{address: 'localhost:1', tls: on}]", &["1:40: listen[0].tls: expected a map, found a string"]);
    // Named clients are enough.
    let named = "callers: {clients: [{name: a, password: {file: secret}}]}\nlisten: {address: '0.0.0.0:1', allow_remote: true, tls: {cert_file: ca.pem, key_file: key.pem}}";
    Given::document(&format!("{named}\n{}", good_document())).good();
    told_with("admin: {}", &["1:8: admin: `address` is missing"]);
    told_with("admin: {name: pages, address: 'localhost:1'}", &["1:9: admin.name: no route can name this listener"]);
    for listener in ["'127.0.0.1:1'", "{address: '[::1]:1', tls: {cert_file: ca.pem, key_file: key.pem}}"] {
        Given::document(&format!("listen: {listener}\n{}", good_document())).good();
    }
}

#[test]
fn unix_sockets_have_a_place_and_permissions() {
    let long = format!("unix:/run/bearerd/{}", "x".repeat(100));
    for (address, what) in [
        ("unix:@app", "an abstract unix socket has no permissions, so every user could connect"),
        ("unix:run/app.sock", "the path of a unix socket starts with `/`"),
        ("unix:", "the path of a unix socket starts with `/`"),
        ("unix:///run/bearerd/app.sock", "`unix:` is followed by a path, and not by `//`"),
        ("unix:/run/bearerd/", "the path of a unix socket ends with the name of a file"),
        (&long, "the path is longer than the 107 bytes that a system takes for a socket"),
        ("unix:/nowhere/app.sock", "the socket's folder `/nowhere` does not exist"),
    ] {
        for (key, column) in [("listen", 9), ("admin", 8), ("health", 9)] {
            told_with(&format!("{key}: '{address}'"), &[&format!("1:{column}: {key}: {what}")]);
        }
    }
    // Its folder is not ours to write to, but it is there.
    Given::document(&format!("listen: 'unix:/run/handed-over.sock'\n{}", good_document())).good();
    let socket = |keys: &str| format!("listen: [{{address: 'unix:/run/bearerd/a', {keys}}}]");
    for (mode, what) in [
        ("rw-rw----", "not permissions"),
        ("432", "out of range: from 0600 to 0777, with both rights for the owner"),
        ("0400", "out of range: from 0600 to 0777, with both rights for the owner"),
        ("01777", "not permissions"),
        ("1777", "out of range: from 0600 to 0777, with both rights for the owner"),
        ("[0660]", "expected permissions such as `0660`, found a list"),
    ] {
        told_with(&socket(&format!("mode: {mode}")), &[&format!("1:49: listen[0].mode: {what}")]);
    }
    told_with(&socket("owner: ''"), &["1:50: listen[0].owner: is empty"]);
    told_with(&socket("allow_remote: true"), &["1:43: listen[0].allow_remote: no other machine reaches a unix socket"]);
    told_with(
        "admin: {address: 'localhost:1', mode: 0660, owner: root, group: app}",
        &[
            "1:33: admin.mode: only a unix socket has one",
            "1:45: admin.owner: only a unix socket has one",
            "1:58: admin.group: only a unix socket has one",
        ],
    );
    for (other, taken) in [("admin", "/run/bearerd//a"), ("health", "/run/bearerd/./a")] {
        told_with(
            &format!("listen: 'unix:/run/bearerd/a'\n{other}: 'unix:{taken}'"),
            &[&format!("2:{}: {other}: the same address as `listen[0]`", other.len() + 3)],
        );
    }
}

#[test]
fn tokens_have_one_endpoint_and_one_identity() {
    told(
        &format!("tokens: {{a: {{}}}}\n{ROUTE}"),
        &[
            "1:10: tokens.a: `token_url` or `issuer` is missing",
            "1:10: tokens.a: `client_id` is missing",
            "1:10: tokens.a: `client_secret` is missing",
        ],
    );
    told_in_token(
        "params: {scope: x, client_assertion: y, ok: [1, 2]}",
        &[
            "7:14: tokens.a.params.scope: bearerd sends this parameter itself",
            "7:24: tokens.a.params.client_assertion: bearerd sends this parameter itself",
        ],
    );
    told_in_token(
        "headers: {Authorization: x, X-A: y, x-a: z, Connection: close, 'X A': 1}",
        &[
            "7:15: tokens.a.headers.Authorization: bearerd sets this header itself",
            "7:41: tokens.a.headers.x-a: the same header as `X-A`",
            "7:49: tokens.a.headers.Connection: this header belongs to the connection",
            "7:68: tokens.a.headers[\"X A\"]: not the name of a header",
        ],
    );
    told_in_token("tls: {cert_file: ca.pem}", &["7:11: tokens.a.tls.cert_file: needs `key_file` beside it"]);
    told_in_token(
        "tls: {key_file: missing.pem, cert_file: ca.pem}",
        &["7:21: tokens.a.tls.key_file: `/etc/bearerd/missing.pem` does not exist"],
    );
    told_in_token(
        "resource: [/relative, 'https://a.example/#x']",
        &[
            "7:16: tokens.a.resource[0]: not an absolute URI",
            "7:27: tokens.a.resource[1]: a resource has no fragment (`#`)",
        ],
    );
    told_in_token(
        "scope: 'a \"b\"'",
        &["7:12: tokens.a.scope: a scope has visible ASCII characters other than `\"` and `\\`"],
    );
    told_in_token("refresh: {early: 0.25}", &["7:22: tokens.a.refresh.early: not a share"]);
    told(
        "tokens: {none: {token_url: 'https://id.example/t', client_id: c, client_secret: {file: secret}}}\nroutes: [{upstream: 'https://a.example', token: none}]\n",
        &["1:10: tokens.none: `none` is what a route says when it wants no token"],
    );
    told(
        "tokens: {'a b': {}}\nroutes: [{upstream: 'https://a.example', token: none}]\n",
        &["1:10: tokens[\"a b\"]: not a name"],
    );
}

#[test]
fn where_a_secret_is_sent_is_looked_at_twice() {
    for (url, what) in [
        ("http://id.example.com/t", "the client secret would go over the network in clear"),
        ("ftp://id.example.com/t", "the scheme is not `https`"),
        ("id.example.com/t", "not a URL"),
        ("https:id.example.com/t", "not a URL"),
        ("https://id.example.com/t#x", "a token URL has no fragment (`#`)"),
        ("https://user:canary@id.example.com/t", "a URL with a user name or password in it"),
        ("https://0x7f.1/t", "the host is a shortened, octal or hexadecimal IPv4 address"),
        ("http://localhost.example.com/t", "the client secret would go over the network in clear"),
    ] {
        let document =
            format!("tokens: {{a: {{token_url: '{url}', client_id: c, client_secret: {{file: secret}}}}}}\n{ROUTE}");
        told(&document, &[&format!("1:25: tokens.a.token_url: {what}")]);
    }
    for (url, what) in [
        ("https://id.example.com/?a=b", "an issuer has no query and no fragment"),
        (
            "https://id.example.com/.well-known/openid-configuration",
            "this is the address of the metadata, not the issuer",
        ),
    ] {
        let document =
            format!("tokens: {{a: {{issuer: '{url}', client_id: c, client_secret: {{file: secret}}}}}}\n{ROUTE}");
        told(&document, &[&format!("1:22: tokens.a.issuer: {what}")]);
    }
}

#[test]
fn secrets_are_read_once_to_see_that_they_are_there() {
    for (secret, at, what) in [
        ("{file: nowhere}", 20, "`/etc/bearerd/nowhere` does not exist"),
        ("{file: empty}", 20, "the secret is empty"),
        ("{file: binary}", 20, "`/etc/bearerd/binary` is not UTF-8 text"),
        ("{file: lines}", 20, "the secret has a line break or another control character in it"),
        ("{env: NOT_SET}", 26, "the environment variable `NOT_SET` is not set"),
        ("{env: my-secret}", 26, "the environment variable that is named here is not set"),
        ("{env: EMPTY}", 20, "the secret is empty"),
        ("{env: [A]}", 26, "`env` takes one string"),
        ("{env: A, file: b}", 20, "a reference has one key: `env` or `file`"),
        (
            "{fil: x}",
            20,
            "expected a secret: `{file: PATH}`, `{env: NAME}`, `{exec: [COMMAND, …]}` or `{systemd: NAME}`, found a map",
        ),
        ("''", 20, "the secret is empty"),
        ("", 5, "has no value"),
    ] {
        let document = format!(
            "{ROUTE}tokens:\n  a:\n    token_url: https://id.example.com/t\n    client_id: c\n    client_secret: {secret}\n"
        );
        let mut given = Given::document(&document).file("/etc/bearerd/lines", "one\ntwo\n").variable("EMPTY", "");
        given.files.0.insert(
            "/etc/bearerd/binary".into(),
            crate::config::files::Seen { bytes: vec![0xff], world_readable: false },
        );
        assert_eq!(given.problems(), [format!("6:{at}: tokens.a.client_secret: {what}")], "{secret}");
    }
}

#[test]
fn upstreams_mean_one_thing() {
    for (upstream, what) in [
        ("api.example.com", "not a URL"),
        ("wss://api.example.com", "the scheme is neither `https` nor `http`"),
        ("https://user@api.example.com", "user information (`@`) has no place in an authority"),
        ("https://api.example.com/?a", "an upstream has no query and no fragment"),
        ("https://api.example.com#a", "an upstream has no query and no fragment"),
        ("https://api.example.com/a/../b", "the path has a dot segment or an encoded dot"),
        ("https://api.example.com/a%2Eb", "the path has a dot segment or an encoded dot"),
        ("https://api.example.com/a//b", "the path has an empty segment (`//`)"),
        ("https://api.example.com/a b", "the path has a character that must be percent-encoded"),
        ("https://api.example.com/%zz", "the path has a character that must be percent-encoded"),
        ("https://api.example.com\\\\x", "the host has a character that no host name has"),
        ("https://", "the host is empty"),
        ("https://127.1", "the host is a shortened, octal or hexadecimal IPv4 address"),
        ("https://api.example.com:99999", "the port is not a number from 1 to 65535"),
        ("http://api.example.com", "the token would go over the network in clear"),
    ] {
        let document = format!("{TOKEN}routes:\n- upstream: \"{upstream}\"\n");
        told(&document, &[&format!("3:13: routes[0].upstream: {what}")]);
    }
}

#[test]
fn routes_are_told_apart_and_name_what_exists() {
    told_in_route("token: b", &["4:10: routes[0].token: no token is called that"]);
    told(
        "tokens: {coaching: {token_url: 'https://id.example/t', client_id: c, client_secret: {file: secret}}}\nroutes: [{upstream: 'https://a.example', token: coachng}]\n",
        &["2:49: routes[0].token: no token is called that (did you mean `coaching`?)"],
    );
    told_in_route(
        "match: {path: /a/../b, host: 'a.example:80'}",
        &[
            "4:17: routes[0].match.path: the path has a dot segment or an encoded dot",
            "4:32: routes[0].match.host: a host name with a port",
        ],
    );
    for (path, what) in [
        ("v2", "a path starts with `/`"),
        ("/a?b", "a path to match has no query and no fragment"),
        ("/a/**", "a path to match has no wildcard"),
        ("/a//b", "the path has an empty segment (`//`)"),
        ("/a%2eb", "the path has a dot segment or an encoded dot"),
        ("/ä", "the path has a character that must be percent-encoded"),
    ] {
        told_in_route(&format!("match: {{path: '{path}'}}"), &[&format!("4:17: routes[0].match.path: {what}")]);
    }
    told_in_route("strip_prefix: true", &["4:3: routes[0].strip_prefix: there is no `match.path` to take off"]);
    told_in_route("inject: {header: Host}", &["4:20: routes[0].inject.header: this header belongs to the connection"]);
    told_in_route(
        "inject: {header: 'a:', scheme: 'a b'}",
        &[
            "4:20: routes[0].inject.header: not the name of a header",
            "4:34: routes[0].inject.scheme: not an authentication scheme",
        ],
    );
    told_in_route(
        "headers: {Host: a, connection: b, TE: c, Proxy-Authorization: d, authorization: e, Expect: f, X-Ok: g}",
        &[
            "4:13: routes[0].headers.Host: the Host header is always the upstream's",
            "4:22: routes[0].headers.connection: this header belongs to the connection",
            "4:37: routes[0].headers.TE: this header belongs to the connection",
            "4:44: routes[0].headers.Proxy-Authorization: this header belongs to the connection",
            "4:68: routes[0].headers.authorization: this header carries the token",
            "4:86: routes[0].headers.Expect: this header belongs to the connection",
        ],
    );
    told_in_route(
        "headers: {X-A: \"a\\nb\", X-B: ' a'}",
        &[
            "4:18: routes[0].headers.X-A: not the value of a header: only visible ASCII characters and spaces are",
            "4:31: routes[0].headers.X-B: the value of a header begins or ends with a space",
        ],
    );
    told(
        &format!("{TOKEN}routes:\n- upstream: https://a.example\n- upstream: https://b.example\n"),
        &["4:3: routes[1].match: matches the same requests as the route `a.example`"],
    );
    told(
        &format!(
            "{TOKEN}routes:\n- {{upstream: 'https://a.example', match: {{host: A.example, path: /x/}}}}\n- {{upstream: 'https://b.example', match: {{host: a.example., path: /x}}}}\n"
        ),
        &["4:35: routes[1].match: matches the same requests as the route `a.example/x`"],
    );
    told(
        &format!(
            "{TOKEN}routes:\n- {{upstream: 'https://a.example', match: {{path: /x}}}}\n- {{upstream: 'https://a.example:8443', match: {{host: b, path: /x}}}}\n"
        ),
        &["4:3: routes[1]: another route is called `a.example/x`"],
    );
    told(
        &format!(
            "{TOKEN}routes:\n- {{name: x, upstream: 'https://a.example', match: {{path: /x}}}}\n- {{name: x, upstream: 'https://a.example'}}\n"
        ),
        &["4:10: routes[1].name: another route is called `x`"],
    );
    told(ROUTE, &["1:10: routes[0]: `token` is missing"]);
    told(
        "tokens: {a: {token_url: 'https://id.example/t', client_id: c, client_secret: {file: secret}}, b: {token_url: 'https://id.example/t', client_id: c, client_secret: {file: secret}}}\nroutes: [{upstream: 'https://a.example'}]\n",
        &["2:10: routes[0]: `token` is missing"],
    );
}

#[test]
fn callers_are_hosts_and_origins() {
    told_with(
        "callers: {hosts: ['*.example.com', 'https://a', 'a:80'], origins: ['*', 'null', a.example]}",
        &[
            "1:19: callers.hosts[0]: a host has no wildcard",
            "1:36: callers.hosts[1]: not a host name",
            "1:49: callers.hosts[2]: a host name with a port",
            "1:68: callers.origins[0]: every web page could use the token",
            "1:73: callers.origins[1]: `null` is the origin of any sandboxed page, so it names nobody",
            "1:81: callers.origins[2]: not a web origin",
        ],
    );
}

#[test]
fn yaml_that_is_none_has_a_cure() {
    let hint = |document: String| Given::document(&document).load().unwrap_err().problems.remove(0).hint.unwrap();
    let good = good_document();
    for (document, cure) in [
        ("a:\n  b: 1\n\tc: 2\n".to_owned(), "no tabs"),
        (format!("{good}workers: %1\n"), "quotes"),
        (format!("{good}workers: @1\n"), "quotes"),
        ("a:\n  b: 1\n c: 2\n".to_owned(), "same column"),
        ("a: b: c\n".to_owned(), "indent"),
        ("a: 1\nb\n".to_owned(), "key: value"),
    ] {
        let hint = hint(document.clone());
        assert!(hint.contains(cure), "{document}{hint}");
    }
    let document = "tokens: {a: {client_secret_file: x}}\nroutes: []\n";
    let told = Given::document(document).load().unwrap_err().to_string();
    assert!(told.contains("hint: write `client_secret: {file: PATH}`"), "{told}");
}

#[test]
fn what_was_meant_is_guessed() {
    told_in_route("path: /v2", &["4:3: routes[0].path: unknown key (did you mean `match: {path: …}`?)"]);
    told_in_route("ca_file: ca.pem", &["4:3: routes[0].ca_file: unknown key (did you mean `tls: {ca_file: …}`?)"]);
    told(
        &format!(
            "tokens: {{a: {{token_url: 'https://id.example.com/t', client_id: c, secret: {{file: secret}}}}}}\n{ROUTE}"
        ),
        &["1:67: tokens.a.secret: unknown key (did you mean `client_secret`?)"],
    );
    // Two routes whose paths are in the wrong place are not the same.
    told(
        &format!(
            "{TOKEN}routes:\n- {{upstream: 'https://a.example', path: /a}}\n- {{upstream: 'https://b.example', path: /b}}\n"
        ),
        &[
            "3:35: routes[0].path: unknown key (did you mean `match: {path: …}`?)",
            "4:35: routes[1].path: unknown key (did you mean `match: {path: …}`?)",
        ],
    );
    for (document, example) in [
        (format!("tokens: [{{name: a}}]\n{ROUTE}"), "hint: write it as in `tokens: {reports: {issuer: https://"),
        (format!("{TOKEN}routes: {{a: {{}}}}\n"), "hint: write it as in `routes: [{upstream: https://"),
    ] {
        let told = Given::document(&document).load().unwrap_err().to_string();
        assert!(told.contains(example), "{told}");
    }
}

#[test]
fn a_secret_that_looks_like_something_else_is_told_and_not_repeated() {
    let token = |secret: &str| TOKEN.replace("{file: secret}", secret);
    let warned = |given: &Given| {
        let warnings = given.good().warnings;
        warnings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    for (secret, what, hint) in [
        ("'${CANARY}'", "looks like a variable of a shell, and is taken as it is written", "write `{env: NAME}`"),
        ("/run/canary/CANARY", "looks like the path of a file", "write `{file: PATH}`"),
        ("{env: PLACE}", "looks like the path of a file", "write `{file: PATH}`"),
        ("{env: TEMPLATE}", "looks like a variable of a shell", "set the variable to the secret itself"),
        // Nothing of a path: base64 may begin like that.
        ("/aB3/CANARY", "a secret is written in the configuration", "use `{file: PATH}`"),
    ] {
        let document = format!("{}{ROUTE}", token(secret));
        let given = Given::document(&document).variable("PLACE", "./CANARY").variable("TEMPLATE", "${CANARY}");
        let told = warned(&given);
        assert!(told.contains(what) && told.contains(hint) && !told.contains("CANARY"), "{told}");
        assert_eq!(given.warnings().len(), 1, "{told}");
    }
}

#[test]
fn a_cure_names_the_variable_or_the_flag() {
    let bare = || {
        Given::nothing()
            .variable("BEARERD_TOKEN_URL", "https://id.example.com/t")
            .variable("BEARERD_CLIENT_ID", "c")
            .variable("BEARERD_CLIENT_SECRET", "/run/secrets/CANARY")
    };
    let told = bare().variable("BEARERD_UPSTREAM", "http://api.example.com").load().unwrap_err();
    assert!(told.to_string().contains("hint: write `https://` in `BEARERD_UPSTREAM`"), "{told}");
    let warning = told.warnings[0].to_string();
    assert!(warning.contains("set `BEARERD_CLIENT_SECRET_FILE` instead") && !warning.contains("CANARY"), "{warning}");
    let told = bare().flag("upstream", "http://api.example.com").load().unwrap_err().to_string();
    assert!(told.contains("hint: write `https://` in `--upstream`"), "{told}");
}

#[test]
fn a_hint_says_what_to_do() {
    let problems = Given::document(&format!("wrkers: 2\n{}", good_document())).load().unwrap_err();
    assert_eq!(problems.to_string(), "/etc/bearerd/config.yaml:1:1: wrkers: unknown key (did you mean `workers`?)");
    let problems = Given::document(&format!("banana: 2\nworkers: 0\n{}", good_document())).load().unwrap_err();
    assert_eq!(
        problems.to_string(),
        "\
/etc/bearerd/config.yaml:1:1: banana: unknown key
  hint: known here: `listen`, `admin`, `health`, `workers`, `log`, `access_log`, `tracing`, `shutdown`, `state_dir`, `tokens`, `routes`, `callers`, `tunnel`, `intercept`, `limits`
/etc/bearerd/config.yaml:2:10: workers: out of range: from 1 to 64"
    );
}

#[test]
fn no_value_is_ever_repeated() {
    let canary = "canary-7f3a";
    let document = format!(
        "\
listen: {canary}
workers: {canary}
log: {{level: {canary}, format: {{env: CANARY}}}}
tokens:
  a: {{token_url: 'https://u:{canary}@id/t', client_id: \"{canary}\\n\", client_secret: [{canary}], params: {{scope: {canary}}}, headers: {{host: {canary}, x: \"{canary}\\n\"}}, auth: {canary}, refresh: {{early: {canary}, margin: {canary}}}}}
  b: {{issuer: '{canary}', client_id: x, client_secret: {{env: {canary}}}, resource: {canary}, scope: \"\\\\{canary}\"}}
routes:
- {{upstream: '{canary}', headers: {{x: \"{canary}\\t\\n\"}}, inject: {{scheme: '{canary} x'}}, match: {{path: '{canary}', host: '{canary} /', listen: {canary}}}, connect_to: '{canary}@x', token: {{env: CANARY}}}}
callers: {{origins: {canary}, hosts: '{canary}/'}}
"
    );
    let problems = Given::document(&document).variable("CANARY", canary).load().unwrap_err();
    assert!(problems.problems.len() > 20, "{problems}");
    assert!(!problems.to_string().contains(canary), "{problems}");
    assert!(!format!("{problems:?}").contains(canary));
}

#[test]
fn a_tunnel_leads_to_a_host_and_a_port() {
    for (text, expected) in [
        ("api.example.com", "the port is missing"),
        ("*.example.com", "the port is missing"),
        ("*:443", "a wildcard stands for all that is in front of the first dot, and not for every host"),
        ("a.*.example.com:443", "a wildcard stands for all that is in front of the first dot, and not for every host"),
        ("*.*.example.com:443", "a wildcard stands for all that is in front of the first dot, and not for every host"),
        ("*.192.0.2.1:443", "there is no name below an address"),
        ("https://api.example.com:443", "not a host and a port"),
        ("api.example.com:443/", "not a host and a port"),
        ("api.example.com:0", "the port is not a number from 1 to 65535"),
        ("*.:443", "the host is empty"),
        ("127.1:443", "the host is a shortened, octal or hexadecimal IPv4 address"),
    ] {
        told_with(&format!("tunnel: ['{text}']"), &[&format!("1:10: tunnel[0]: {expected}")]);
    }
}

#[test]
fn what_is_not_encrypted_is_not_intercepted() {
    told(
        &format!("{TOKEN}routes:\n- upstream: http://localhost\n  intercept: true\n"),
        &["4:14: routes[0].intercept: only what is asked for by `https://` is intercepted, and the upstream is not"],
    );
}

#[test]
fn rules_that_allow_nothing_sensible_are_told() {
    told_in_route(
        "allow: [{methods: [get], path: /x}]",
        &["4:22: routes[0].allow[0].methods[0]: methods are told apart by case"],
    );
    told_in_route(
        "allow: [{methods: [TRACE, CONNECT, 'A B']}]",
        &[
            "4:22: routes[0].allow[0].methods[0]: TRACE would read the token back to whoever asks",
            "4:29: routes[0].allow[0].methods[1]: CONNECT makes a tunnel, which no route has",
            "4:38: routes[0].allow[0].methods[2]: not a method",
        ],
    );
    told_in_route("allow: [{path: v2}]", &["4:18: routes[0].allow[0].path: a path pattern starts with `/`"]);
    told_in_route("allow: [{}]", &["4:11: routes[0].allow[0]: neither `methods` nor `path` is there"]);
    told_in_route("allow: [{paths: /x}]", &["4:12: routes[0].allow[0].paths: unknown key (did you mean `path`?)"]);
    told(
        &format!("{TOKEN}routes: [{{upstream: 'https://a.example/a%2fb', allow: [{{path: /x}}]}}]\n"),
        &["2:21: routes[0].upstream: beside `allow` no request gets there: the path has an encoded slash (`%2f`)"],
    );
    told_in_route("limits: {in_flight: 0}", &["4:23: routes[0].limits.in_flight: out of range: from 1 to 1000000"]);
}

#[test]
fn callers_that_are_nobody_are_told() {
    told_in_route(
        "callers: [biling]\ncallers: {clients: [{name: billing, uid: 7}]}",
        &["4:13: routes[0].callers[0]: no client is called that (did you mean `billing`?)"],
    );
    told_in_route("callers: billing", &["4:12: routes[0].callers: no client is called that"]);
    told_with(
        "callers: {clients: [{name: a}]}",
        &["1:21: callers.clients[0]: there is no way for it to prove its name"],
    );
    told_with("callers: {clients: [{uid: 7}]}", &["1:21: callers.clients[0]: `name` is missing"]);
    told_with(
        "callers: {clients: [{name: 'a:b', password: {file: secret}}]}",
        &["1:28: callers.clients[0].name: a name that goes with a password has no `:`, which ends it on the wire"],
    );
    told_with(
        "callers: {clients: [{name: a, password: {file: empty}}]}",
        &["1:41: callers.clients[0].password: the secret is empty"],
    );
    told_with(
        "callers: {clients: [{name: a, uid: 7}, {name: a, uid: 8}, {name: b, uid: 7}]}",
        &[
            "1:47: callers.clients[1].name: another client is called that",
            "1:74: callers.clients[2].uid: the client `a` has the same",
        ],
    );
    told_with(
        "callers: {clients: [{name: a, cert_san: X.corp}, {name: b, cert_san: x.corp}]}",
        &["1:70: callers.clients[1].cert_san: the client `a` has the same"],
    );
}

#[track_caller]
fn warned(document: &str, expected: &[&str]) {
    assert_eq!(Given::document(document).warnings(), expected, "\n{document}");
}

#[test]
fn what_restricts_nothing_or_can_be_gone_round_is_warned_of() {
    let route = |name: &str, keys: &str| format!("- {{name: {name}, upstream: 'https://a.example', token: a{keys}}}\n");
    let clients = "callers: {clients: [{name: ops, password: {file: secret}}]}\n";
    let round = |key: &str| {
        format!(
            "the route `all` leads to the same upstream without `{key}`: a path that is written in another way, such as \
             `/%61` for `/a`, takes that one"
        )
    };
    let document = |routes: &str| format!("{TOKEN}{clients}routes:\n{routes}");
    let all = route("all", "");
    let admin = route("admin", ", match: {path: /admin}, callers: ops");
    warned(&document(&(all.clone() + &admin)), &[&format!("5:81: routes[1].callers: {}", round("callers"))]);
    let ruled = route("ruled", ", match: {path: /ro}, allow: [{path: /ro/**}]");
    warned(&document(&(all + &ruled)), &[&format!("5:78: routes[1].allow: {}", round("allow"))]);
    // Neither what is as strict, nor what leads elsewhere.
    warned(&document(&(route("all", ", callers: [ops]") + &admin)), &[]);
    warned(&document(&(route("other", ", match: {path: /other}") + &admin)), &[]);
    warned(
        &document(&route("open", ", callers: [], allow: []")),
        &[
            "4:57: routes[0].callers: an empty list is no restriction",
            "4:70: routes[0].allow: an empty list is no restriction",
        ],
    );
    warned(
        &format!("{}callers: {{clients: [{{name: a, uid: 7, cert_san: x.corp}}]}}\n", good_document()),
        &[
            "3:31: callers.clients[0].uid: no listener is a unix socket, so nobody can prove this",
            "3:39: callers.clients[0].cert_san: no listener asks for certificates, so nobody can prove this",
        ],
    );
    // Where a listener is not known, neither is what it asks for.
    for listen in [
        "[{address: 'unix:/run/x.sock', tls: {cert_file: /away, key_file: /away, client_ca_file: /away}}]",
        "[{address: 'unix:x.sock', tls: {client_ca_file: /away}}]",
        "[{address: 'unix:/run/x.sock', mode: often}]",
        "[localhost:0, {address: 'unix:'}]",
    ] {
        let text = format!(
            "{}callers: {{clients: [{{name: a, uid: 7, cert_san: x.corp}}]}}\nlisten: {listen}\n",
            good_document()
        );
        let problems = Given::document(&text).load().unwrap_err();
        assert_eq!(super::lines(&problems.warnings), [""; 0], "{listen}");
    }
}
