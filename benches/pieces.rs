//! What the pieces of a request's way cost by themselves, in time and allocations: for whoever works on one of them. A
//! machine that does something else besides makes them slower; `instructions.rs` is what tells growth.

#![expect(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

mod stage;

use std::fmt::Write as _;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bearerd::clock::Now;
use bearerd::files::Files;
use bearerd::life::Readiness;
use bearerd::outbound::Prepared;
use bearerd::rules::{Admission, Admitted, Arrival, Clients, Gate, Guards, Route, RouteId, RouteSettings, Routes};
use bearerd::tls::ClientConfigs;
use bearerd::token::{Reader, Registry};
use bearerd::wire::form::Target;
use bearerd::wire::headers::{strip_request, strip_response};
use bearerd::wire::via::Via;
use divan::{AllocProfiler, Bencher, black_box};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use tokio::runtime::Builder;
use tokio::sync::mpsc;

use self::stage::{App, CALLS, Stage};

#[global_allocator]
static HEAP: AllocProfiler = AllocProfiler::system();

/// How often a piece runs for each time that the clock is read: so that neither that, nor the first run, which finds
/// nothing in the processor's caches, is what is measured.
const AT_ONCE: u32 = 1000;

fn main() {
    divan::main();
}

/// A token that is held, and renewed by its driver as its life wants it, on a thread of its own until the process ends.
fn reader(life: u32) -> Reader {
    let folder = folder("token");
    let provider = stage::provider(life).unwrap();
    let file = folder.join("bearerd.yaml");
    let text = format!(
        "tokens:\n  api:\n    token_url: http://{provider}/token\n    client_id: bench\n    \
         client_secret: a secret\n    refresh: {{early: 90%, min_interval: 100ms}}\n\
         routes:\n  - {{upstream: 'https://api.example.test'}}\n"
    );
    fs::write(&file, text).unwrap();
    let plan = stage::plan(&file).unwrap();
    fs::remove_dir_all(folder).unwrap();
    let registry = Registry::new(plan.tokens, None, &ClientConfigs::default()).unwrap();
    let reader = registry.reader("api", "Bearer").unwrap();
    let (told, held) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
            let readiness = Readiness::default();
            registry.start(Some(&readiness), &stage::observer(), &Files::new(|_| (), || ()));
            readiness.ready().await;
            told.send(()).unwrap();
            std::future::pending::<()>().await;
        });
    });
    held.recv_timeout(Duration::from_secs(10)).unwrap();
    reader
}

/// For files that are read once.
fn folder(name: &str) -> PathBuf {
    let name = format!("pieces-{name}-{}", std::process::id());
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// Reading the token, by one worker and by two at once.
#[divan::bench(sample_size = AT_ONCE, threads = [1, 2])]
fn token_slot(bencher: Bencher<'_, '_>) {
    let reader = reader(24 * 60 * 60);
    bencher.bench(|| reader.bearer(black_box(Now::read())).is_ok());
}

/// The same while it is published anew as often as a configuration may have it: ten times a second.
#[divan::bench(sample_size = AT_ONCE, min_time = 1, threads = [1, 2])]
fn token_slot_while_renewed(bencher: Bencher<'_, '_>) {
    let reader = reader(1);
    bencher.bench(|| reader.bearer(black_box(Now::read())).is_ok());
}

/// The head of the first of [`CALLS`], to a path of one's own.
fn head(path: &str) -> Parts {
    let bytes = CALLS[0].request((Ipv4Addr::LOCALHOST, 4280).into());
    let text = String::from_utf8(bytes).unwrap();
    let mut request = Request::get(path);
    for (name, value) in text.lines().filter_map(|line| line.split_once(": ")) {
        request = request.header(name, value);
    }
    request.body(()).unwrap().into_parts().0
}

/// A table of so many routes, and the head of a request for one in its middle.
fn routes(number: usize) -> (Routes, Parts) {
    let mut text = String::from("routes:\n");
    for index in 0..number {
        writeln!(
            text,
            "  - {{match: {{path: /team-{index}/v2}}, upstream: 'https://api{index}.example.test', token: none}}"
        )
        .unwrap();
    }
    let folder = folder("routes");
    let file = folder.join("bearerd.yaml");
    fs::write(&file, text).unwrap();
    let plan = stage::plan(&file).unwrap();
    fs::remove_dir_all(folder).unwrap();
    let hosts = plan.routes.iter().map(|route| route.upstream.authority.host.clone()).collect::<Vec<_>>();
    let guards = Guards::new(&plan.callers, hosts);
    let observer = stage::observer();
    let route = |settings: RouteSettings| Route {
        id: RouteId::unique(),
        token: None,
        metrics: observer.route(&settings.name),
        gate: Gate::new(settings.limits),
        host: HeaderValue::from_str(&settings.upstream.authority.to_string()).unwrap(),
        settings,
    };
    let all = plan.routes.into_iter().map(|settings| (Arc::new(route(settings)), None)).collect();
    let head = head(&format!("/team-{}/v2/orders/1234567?expand=lines&limit=50", number / 2));
    (Routes::new(all, guards, Arc::new(Clients::new(&[]))), head)
}

fn admitted(routes: &Routes, head: &Parts) -> Admitted {
    let target = Target::of(head).unwrap();
    match routes.admit(&target, &head.method, &head.headers, &Arrival::default(), None) {
        Ok(Admission::Forward(admitted)) => Some(admitted),
        Ok(Admission::StubToken(_)) | Err(_) => None,
    }
    .unwrap()
}

/// Guards and routing.
#[divan::bench(sample_size = AT_ONCE, args = [1, 100, 10_000])]
fn admission(bencher: Bencher<'_, '_>, number: usize) {
    let (routes, head) = routes(number);
    let (target, arrival) = (Target::of(&head).unwrap(), Arrival::default());
    drop(admitted(&routes, &head));
    bencher.bench(|| routes.admit(black_box(&target), &head.method, &head.headers, &arrival, None).is_ok());
}

/// What is asked for, of a request to a base URL and of a proxy client's.
#[divan::bench(sample_size = AT_ONCE, args = ["/v2/orders/1234567?expand=lines&limit=50", "http://api.example.test/v2/orders/1234567"])]
fn form(bencher: Bencher<'_, '_>, path: &str) {
    let mut head = head(path);
    if let Some(authority) = head.uri.authority() {
        let host = HeaderValue::from_str(authority.as_str()).unwrap();
        head.headers.insert(http::header::HOST, host);
    }
    bencher.bench(|| Target::of(black_box(&head)).unwrap());
}

/// As many headers as hyper takes, half of them named by Connection.
fn hostile() -> HeaderMap {
    let mut headers = HeaderMap::new();
    for index in 0..98 {
        let name = HeaderName::from_bytes(format!("x-header-{index}").as_bytes()).unwrap();
        headers.append(name, HeaderValue::from_static("value"));
    }
    let named = (0..49).map(|index| format!("x-header-{}", index * 2)).collect::<Vec<_>>().join(", ");
    headers.append(http::header::CONNECTION, HeaderValue::from_str(&named).unwrap());
    headers
}

/// Hop-by-hop headers of a usual request.
#[divan::bench(sample_size = AT_ONCE)]
fn hygiene_usual(bencher: Bencher<'_, '_>) {
    let headers = head("/").headers;
    bencher.with_inputs(|| headers.clone()).bench_refs(strip_request);
}

/// Of one that means harm.
#[divan::bench(sample_size = AT_ONCE)]
fn hygiene_hostile(bencher: Bencher<'_, '_>) {
    let headers = hostile();
    bencher.with_inputs(|| headers.clone()).bench_refs(strip_request);
}

/// Of an answer.
#[divan::bench(sample_size = AT_ONCE)]
fn hygiene_answer(bencher: Bencher<'_, '_>) {
    let mut headers = HeaderMap::new();
    for name in ["server", "date", "content-type", "content-length", "cache-control", "x-request-id", "vary"] {
        headers.append(HeaderName::from_static(name), HeaderValue::from_static("a value"));
    }
    bencher.with_inputs(|| headers.clone()).bench_refs(strip_response);
}

/// All that is done to a head before it has its token.
#[divan::bench(sample_size = AT_ONCE)]
fn preparation(bencher: Bencher<'_, '_>) {
    let (routes, _) = routes(1);
    let via = Via::new(1);
    let path = "/team-0/v2/orders/1234567?expand=lines&limit=50";
    let admitted = admitted(&routes, &head(path));
    bencher.with_inputs(|| head(path)).bench_refs(|head| Prepared::new(head, &admitted, &via));
}

/// The whole way, over loopback sockets, the kernel's work and two changes of threads included.
#[divan::bench(sample_size = 50, args = CALLS.map(|call| call.name))]
fn whole_request(bencher: Bencher<'_, '_>, name: &str) {
    let call = CALLS.into_iter().find(|call| call.name == name).unwrap();
    let stage = Stage::set(&format!("whole-{name}")).unwrap();
    let (told, address) = std::sync::mpsc::channel();
    let (stop, stopped) = mpsc::channel(1);
    let configuration = stage.configuration();
    let bearerd = std::thread::spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let context = runtime.enter();
        let (bound, address) = stage::bind(&configuration).unwrap();
        drop(context);
        told.send(address).unwrap();
        runtime.block_on(bound.run(stopped)).unwrap();
    });
    let address = address.recv_timeout(Duration::from_secs(10)).unwrap();
    let (request, mut app) = (call.request(address), App::connect(address).unwrap());
    bencher.bench_local(|| app.call(&request).unwrap());
    drop(app);
    stop.blocking_send("the end of the benchmark").unwrap();
    bearerd.join().unwrap();
}
