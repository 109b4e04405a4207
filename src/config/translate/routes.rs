//! Entries of `routes`: each leads somewhere, names a token that exists, and matches what no other matches.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use http::{HeaderName, StatusCode, header};

use super::super::formats;
use super::super::problem::{Complaint, Path, did_you_mean};
use super::super::tree::Value;
use super::super::words::Switch;
use super::super::written;
use super::tokens::{NO_TOKEN, proxy};
use super::{Scribe, hop_by_hop};
use crate::rules::settings::{
    Allow, InFlight, Inject, Match, OnAuthorization, RenewOn, RouteSettings, Timeouts, Upstream,
};
use crate::tls::Protocols;
use crate::wire::authority::{Authority, Host};
use crate::wire::path::{check_strict, is_below};

pub(super) fn translate(
    scribe: &mut Scribe<'_>,
    routes: Vec<written::Route>,
    listeners: &[String],
    clients: &[String],
) -> Vec<RouteSettings> {
    let tokens = written_tokens(scribe);
    let mut walk = Walk {
        listeners,
        clients,
        known: tokens.iter().cloned().collect(),
        tokens,
        used: HashSet::new(),
        names: HashSet::new(),
        matches: HashMap::new(),
        stubs: HashMap::new(),
    };
    let root = Path::default().with("routes");
    let done: Vec<RouteSettings> = routes
        .into_iter()
        .enumerate()
        .filter_map(|(index, route)| walk.one(scribe, &root.with(index), route))
        .collect();
    walk.unused(scribe);
    // Their places are known where all of them could be read.
    if scribe.report.problems.is_empty() {
        ways_round(scribe, &done);
    }
    done
}

/// The tokens that were written, what is wrong with them or not: a route may name them.
fn written_tokens(scribe: &Scribe<'_>) -> Vec<String> {
    let tokens = scribe.written.tree.get("tokens").map(|tokens| tokens.entries()).unwrap_or_default();
    tokens.iter().map(|entry| entry.key.clone()).collect()
}

/// What one route has to know of the others.
struct Walk<'a> {
    listeners: &'a [String],
    clients: &'a [String],
    tokens: Vec<String>,
    known: HashSet<String>,
    used: HashSet<String>,
    names: HashSet<Arc<str>>,
    matches: HashMap<Matched, Arc<str>>,
    /// What paths of `stub_token` are taken: as `matches`, without regard to `match.path`.
    stubs: HashMap<Matched, Arc<str>>,
}

/// Listener, host and path.
type Matched = (Option<Arc<str>>, Option<Host>, Option<Arc<str>>);

impl Walk<'_> {
    fn one(&mut self, scribe: &mut Scribe<'_>, path: &Path, route: written::Route) -> Option<RouteSettings> {
        let upstream = route.upstream.as_deref().and_then(|text| formats::upstream(text).ok());
        let matching = self.matching(scribe, &path.with("match"), &route.r#match);
        let wants_none = route.token.as_deref() == Some(NO_TOKEN);
        let token = self.token(scribe, path, route.token.as_deref());
        let connect_to = route.connect_to.as_deref().and_then(|text| formats::dial_address(text).ok());
        let connect_to = connect_to
            .zip(upstream.as_ref())
            .map(|(to, upstream)| Authority { port: Some(to.port_or(upstream.port())), host: to.host });
        for key in ["callers", "allow"] {
            let list = scribe.written.tree.find(&path.with(key));
            if list.is_some_and(|node| matches!(&node.value, Value::List(list) if list.is_empty())) {
                let complaint = Complaint::new("an empty list is no restriction");
                scribe.key_warning(&path.with(key), complaint.hint("list what the route is for, or leave the key out"));
            }
        }
        let callers = self.callers(scribe, &path.with("callers"), &route.callers.0);
        let allow = allow(scribe, &path.with("allow"), &route.allow);
        let inject = self.inject(scribe, &path.with("inject"), &route.inject);
        let headers = {
            let injected = inject.as_ref().filter(|_| token.is_some()).map(|inject| inject.header.clone());
            scribe.headers(&path.with("headers"), route.headers, |name| owned(name, injected.as_ref()))
        };
        let tls = scribe.tls(&path.with("tls"), route.tls);
        let proxy = proxy(scribe, &path.with("proxy"), route.proxy.as_deref());
        let upstream = upstream?;
        if let Some(why) = check_strict(&upstream.base_path).err().filter(|_| !allow.is_empty()) {
            let complaint = Complaint::new(format!("beside `allow` no request gets there: {why}"));
            scribe
                .problem(&path.with("upstream"), complaint.hint("leave `allow` out, or have the API at a plain path"));
        }
        if strips_nothing(route.strip_prefix, &matching) && !scribe.any_bad(&path.with("match"), &["path"]) {
            let complaint = Complaint::new("there is no `match.path` to take off");
            scribe.key_problem(&path.with("strip_prefix"), complaint);
        }
        if token.is_some() && !route.allow_plaintext && in_clear(&upstream, connect_to.as_ref(), proxy.is_some()) {
            let complaint = Complaint::new("the token would go over the network in clear");
            let path = path.with("upstream");
            let hint = match scribe.written.tree.place_of(&path).setting() {
                Some(setting) => {
                    format!("write `https://` in `{setting}`; only a file can say `allow_plaintext: true`")
                }
                None => "use `https`, or say `allow_plaintext: true` if the network itself is trusted".to_owned(),
            };
            scribe.problem(&path, complaint.hint(hint));
        }
        if route.intercept && !upstream.https {
            let complaint =
                Complaint::new("only what is asked for by `https://` is intercepted, and the upstream is not");
            scribe.problem(&path.with("intercept"), complaint.hint("leave it out: nothing there is encrypted"));
        }
        let name = self.name(scribe, path, route.name, &upstream, &matching);
        self.distinct(scribe, path, &matching, &name);
        let stub_token = {
            let written = route.stub_token.as_deref().and_then(|path| formats::stub_path(path).ok());
            let rejects = matches!(route.authorization, written::OnAuthorization::Reject);
            written.inspect(|stub| self.stub(scribe, &path.with("stub_token"), stub, rejects, &matching, &name))
        };
        let settings = RouteSettings {
            name,
            matching,
            upstream,
            connect_to,
            strip_prefix: route.strip_prefix,
            token,
            inject: inject?,
            headers,
            authorization: match route.authorization {
                written::OnAuthorization::Replace => OnAuthorization::Replace,
                written::OnAuthorization::Reject => OnAuthorization::Reject,
            },
            allow,
            callers,
            renew_on: match route.renew_on {
                Switch::Off => None,
                Switch::On(on) => Some(RenewOn {
                    statuses: on.statuses.0.iter().filter_map(|code| StatusCode::from_u16(*code).ok()).collect(),
                    replay_limit: on.replay_limit.0,
                }),
            },
            tls,
            intercept: route.intercept,
            stub_token,
            proxy,
            http: match route.http {
                written::Http::Auto => Protocols::Either,
                written::Http::Http1 => Protocols::Http1,
                written::Http::Http2 => Protocols::Http2,
            },
            warm: route.warm,
            via: route.via,
            timeouts: Timeouts {
                connect: route.timeouts.connect.0,
                headers: route.timeouts.headers.0,
                body_idle: route.timeouts.body_idle.0,
                pool_idle: route.timeouts.pool_idle.0,
                max_age: route.timeouts.max_age.0,
            },
            limits: InFlight {
                in_flight: route.limits.in_flight,
                queue: route.limits.queue,
                queue_wait: route.limits.queue_wait.0,
            },
        };
        doubt(scribe, path, &settings, wants_none);
        Some(settings)
    }

    fn matching(&self, scribe: &mut Scribe<'_>, path: &Path, written: &written::Match) -> Match {
        if let Some(name) = &written.listen
            && !self.listeners.contains(name)
            && !scribe.written.bad.iter().any(|path| path.starts_with("listen"))
        {
            let meant = did_you_mean(name, self.listeners.iter().map(String::as_str));
            scribe.problem(&path.with("listen"), Complaint::new(format!("no listener is called that{meant}")));
        }
        Match {
            listen: written.listen.as_deref().map(Arc::from),
            host: written.host.as_deref().and_then(|host| formats::host(host).ok()),
            path: written.path.as_deref().and_then(|path| formats::match_path(path).ok()).flatten(),
        }
    }

    fn token(&mut self, scribe: &mut Scribe<'_>, path: &Path, written: Option<&str>) -> Option<Arc<str>> {
        let tokens = Path::default().with("tokens");
        match (written, self.tokens.as_slice()) {
            (Some(NO_TOKEN), _) => None,
            (Some(name), _) if self.known.contains(name) => {
                self.used.insert(name.to_owned());
                Some(name.into())
            }
            (Some(name), known) => {
                let meant = did_you_mean(name, known.iter().map(String::as_str));
                let names: Vec<String> = known.iter().map(|name| format!("`{name}`")).collect();
                let hint = match known.is_empty() {
                    true => String::from("define it under `tokens`, or write `token: none`"),
                    false => format!("define it under `tokens`, where there is {}", names.join(", ")),
                };
                let complaint = Complaint::new(format!("no token is called that{meant}")).hint(hint);
                if !scribe.is_bad(&tokens) {
                    scribe.problem(&path.with("token"), complaint);
                }
                // A route with a token all the same: what else is wrong with it depends on that.
                Some(name.into())
            }
            (None, [only]) => {
                self.used.insert(only.clone());
                Some(only.as_str().into())
            }
            (None, known) => {
                if !scribe.is_bad(&tokens) && !scribe.any_bad(path, &["token"]) {
                    let hint = match known.is_empty() {
                        true => String::from("define one under `tokens`, or write `token: none`"),
                        false => String::from("name one of the tokens, or write `token: none`"),
                    };
                    scribe.key_problem(path, Complaint::new("`token` is missing").hint(hint));
                }
                None
            }
        }
    }

    fn callers(&self, scribe: &mut Scribe<'_>, path: &Path, written: &[String]) -> Vec<Arc<str>> {
        for (index, name) in written.iter().enumerate().filter(|(_, name)| !self.clients.contains(name)) {
            let place = if written.len() == 1 && scribe.is_there(&path.with(0)) || written.len() > 1 {
                path.with(index)
            } else {
                path.clone()
            };
            if !scribe.written.bad.iter().any(|path| path.starts_with("callers.clients")) {
                let meant = did_you_mean(name, self.clients.iter().map(String::as_str));
                let complaint = Complaint::new(format!("no client is called that{meant}"));
                scribe.problem(
                    &place,
                    complaint.hint("`callers.clients` lists the clients and how each proves its name"),
                );
            }
        }
        written.iter().map(|name| name.as_str().into()).collect()
    }

    fn inject(&self, scribe: &mut Scribe<'_>, path: &Path, written: &written::Inject) -> Option<Inject> {
        let name = formats::header_name(&written.header).ok()?;
        // `Proxy-Authorization` is for a proxy on the way, and there is none.
        if hop_by_hop(&name) {
            scribe.problem(&path.with("header"), Complaint::new("this header belongs to the connection"));
        }
        Some(Inject { header: name, scheme: written.scheme.clone() })
    }

    fn name(
        &mut self,
        scribe: &mut Scribe<'_>,
        path: &Path,
        written: Option<String>,
        upstream: &Upstream,
        matching: &Match,
    ) -> Arc<str> {
        let explicit = written.is_some();
        let name: Arc<str> = match written {
            Some(name) => name.into(),
            None => format!("{}{}", upstream.authority.host, matching.path.as_deref().unwrap_or_default()).into(),
        };
        if !self.names.insert(name.clone()) {
            let complaint = Complaint::new(format!("another route is called `{name}`"));
            match explicit {
                true => scribe.problem(&path.with("name"), complaint),
                false => scribe.key_problem(path, complaint.hint("give this one a `name` of its own")),
            }
        }
        name
    }

    /// Two routes that match the same: the second would never see a request.
    fn distinct(&mut self, scribe: &mut Scribe<'_>, path: &Path, matching: &Match, name: &Arc<str>) {
        let path = path.with("match");
        if scribe.is_bad(&path) || scribe.any_bad(&path, &["listen", "host", "path"]) {
            return;
        }
        let key = (matching.listen.clone(), matching.host.clone(), matching.path.clone());
        if let Some(other) = self.matches.get(&key) {
            let complaint = Complaint::new(format!("matches the same requests as the route `{other}`"));
            scribe.key_problem(&path, complaint.hint("tell them apart by `match`: `host`, `path` or `listen`"));
        } else {
            self.matches.insert(key, name.clone());
        }
    }

    /// The path that is answered with a placeholder: one route's, and not of one that refuses what the SDK then sends.
    fn stub(
        &mut self,
        scribe: &mut Scribe<'_>,
        path: &Path,
        stub: &Arc<str>,
        rejects: bool,
        matching: &Match,
        name: &Arc<str>,
    ) {
        if rejects {
            let complaint = Complaint::new("`authorization: reject` would refuse the placeholder when it is used");
            scribe.problem(path, complaint.hint("let `authorization` be `replace`, or leave `stub_token` out"));
        }
        let key = (matching.listen.clone(), matching.host.clone(), Some(Arc::clone(stub)));
        if let Some(other) = self.stubs.get(&key) {
            let complaint = Complaint::new(format!("the route `{other}` answers this path already"));
            scribe
                .problem(path, complaint.hint("one is enough: the placeholder of one route is as good for the others"));
        } else {
            self.stubs.insert(key, name.clone());
        }
    }

    fn unused(&self, scribe: &mut Scribe<'_>) {
        // With a route that could not be read, nobody knows which token it meant.
        for token in self.tokens.iter().filter(|token| !self.used.contains(*token)) {
            if scribe.report.problems.is_empty() {
                let path = Path::default().with("tokens").with(token.as_str());
                scribe.key_warning(&path, Complaint::new("no route uses this token"));
            }
        }
    }
}

fn allow(scribe: &mut Scribe<'_>, path: &Path, written: &[written::Allow]) -> Vec<Allow> {
    let mut done = Vec::with_capacity(written.len());
    for (index, rule) in written.iter().enumerate() {
        let path = path.with(index);
        let says_nothing = !scribe.is_there(&path.with("methods")) && !scribe.is_there(&path.with("path"));
        if says_nothing && !scribe.is_bad(&path) && !scribe.any_bad(&path, &["methods", "path"]) {
            let complaint = Complaint::new("neither `methods` nor `path` is there");
            scribe.problem(&path, complaint.hint("leave the entry out, or say what it allows"));
        }
        done.extend(formats::allow_path(&rule.path).ok().map(|path| Allow {
            methods: rule.methods.0.iter().filter_map(|method| formats::method(method).ok()).collect(),
            path,
        }));
    }
    done
}

/// What one route forbids another may allow: they lead to the same upstream, and the other's reach covers this one's.
fn ways_round(scribe: &mut Scribe<'_>, routes: &[RouteSettings]) {
    let mut open: HashMap<(bool, &Authority), Vec<&RouteSettings>> = HashMap::new();
    for route in routes.iter().filter(|route| route.allow.is_empty() || route.callers.is_empty()) {
        open.entry((route.upstream.https, &route.upstream.authority)).or_default().push(route);
    }
    for (index, route) in routes.iter().enumerate().filter(|(_, route)| route.is_restricted()) {
        let reach = route.reach();
        // A handful is enough to find one.
        let others = open.get(&(route.upstream.https, &route.upstream.authority)).into_iter().flatten().take(100);
        for other in others.filter(|other| other.name != route.name && is_below(&reach, &other.reach())) {
            let forbids = [
                ("callers", !route.callers.is_empty() && other.callers.is_empty()),
                ("allow", !route.allow.is_empty() && other.allow.is_empty()),
            ];
            if let Some((key, _)) = forbids.into_iter().find(|(_, looser)| *looser) {
                let complaint = Complaint::new(format!(
                    "the route `{}` leads to the same upstream without `{key}`: a path that is written in another way, \
                     such as `/%61` for `/a`, takes that one",
                    other.name
                ));
                let path = Path::default().with("routes").with(index).with(key);
                scribe.key_warning(&path, complaint.hint(format!("give that route a `{key}`, too")));
                break;
            }
        }
    }
}

/// What is allowed and hardly meant. `wants_none` says that a route without a token was to be one.
fn doubt(scribe: &mut Scribe<'_>, path: &Path, route: &RouteSettings, wants_none: bool) {
    if let Some(matched) = route.matching.path.as_deref()
        && *route.upstream.base_path == *matched
        && !route.strip_prefix
    {
        let what = format!("the path of `upstream` is put in front: `{matched}/x` goes to `{matched}{matched}/x`");
        let hint = "leave the path out of `upstream`, or say `strip_prefix: true`";
        scribe.warning(&path.with("match").with("path"), Complaint::new(what).hint(hint));
    }
    if wants_none && route.stub_token.is_some() {
        let complaint = Complaint::new("with `token: none` no token takes the placeholder's place");
        scribe.key_warning(&path.with("stub_token"), complaint.hint("leave it out, or give the route a token"));
    }
    let does_nothing = route.headers.is_empty() && !route.is_restricted();
    if wants_none && route.intercept && does_nothing {
        let complaint = Complaint::new("with `token: none` there is nothing to put on, and so no reason to decrypt");
        let hint = "pass the host through with `tunnel`, or give the route a token";
        scribe.key_warning(&path.with("intercept"), complaint.hint(hint));
    }
}

fn strips_nothing(strip_prefix: bool, matching: &Match) -> bool {
    strip_prefix && matching.path.is_none()
}

/// Whether what is sent can be read on the way: what `allow_plaintext` allows.
pub(crate) fn in_clear(upstream: &Upstream, connect_to: Option<&Authority>, by_proxy: bool) -> bool {
    // What a proxy calls its own machine is not this one.
    !upstream.https && (by_proxy || !connect_to.map_or(&upstream.authority.host, |to| &to.host).is_loopback())
}

/// Headers of the upstream's request that are not the configuration's to set.
fn owned(name: &HeaderName, injected: Option<&HeaderName>) -> Option<Complaint> {
    if injected == Some(name) {
        return Some(Complaint::new("this header carries the token"));
    }
    if *name == header::HOST {
        return Some(Complaint::new("the Host header is always the upstream's"));
    }
    hop_by_hop(name).then(|| Complaint::new("this header belongs to the connection"))
}
