//! The proxy that somebody would write on Pingora for the same job: a filter that sets the header to a token that never
//! changes, which flatters it. It is in the comparison for what its framework costs.
//!
//! `bench-pingora PORT UPSTREAM_PORT NAME CA_FILE TOKEN_FILE [h2-upstream|h2-app]`

use async_trait::async_trait;
use pingora::apps::HttpServerOptions;
use pingora::http::RequestHeader;
use pingora::protocols::ALPN;
use pingora::proxy::{ProxyHttp, Session, http_proxy_service};
use pingora::server::Server;
use pingora::server::configuration::ServerConf;
use pingora::upstreams::peer::HttpPeer;

struct Injector {
    upstream: std::net::SocketAddr,
    name: String,
    authorization: http::HeaderValue,
    alpn: ALPN,
}

#[async_trait]
impl ProxyHttp for Injector {
    type CTX = ();

    fn new_ctx(&self) -> Self::CTX {}

    async fn upstream_peer(&self, _: &mut Session, _: &mut Self::CTX) -> pingora::Result<Box<HttpPeer>> {
        // Certificate and name are verified by default.
        let mut peer = HttpPeer::new(self.upstream, true, self.name.clone());
        peer.options.alpn = self.alpn.clone();
        peer.options.max_h2_streams = 128;
        Ok(Box::new(peer))
    }

    async fn upstream_request_filter(
        &self,
        _: &mut Session,
        request: &mut RequestHeader,
        _: &mut Self::CTX,
    ) -> pingora::Result<()> {
        request.insert_header("host", self.name.as_str())?;
        request.insert_header("authorization", self.authorization.clone())
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [port, upstream_port, name, ca_file, token_file, rest @ ..] = arguments.as_slice() else {
        panic!("PORT UPSTREAM_PORT NAME CA_FILE TOKEN_FILE [h2-upstream|h2-app]");
    };
    let speaks = |what: &str| rest.iter().any(|word| word == what);
    let token = std::fs::read_to_string(token_file).expect("the token file");
    let mut server = Server::new_with_opt_and_conf(
        None,
        ServerConf {
            threads: 1,
            work_stealing: false, // with one thread there is nobody to steal from
            ca_file: Some(ca_file.clone()),
            upstream_keepalive_pool_size: 512, // the default of 128 is less than the connections of this comparison
            grace_period_seconds: Some(0),
            graceful_shutdown_timeout_seconds: Some(0),
            ..ServerConf::default()
        },
    );
    server.bootstrap();
    let mut service = http_proxy_service(
        &server.configuration,
        Injector {
            upstream: ([127, 0, 0, 1], upstream_port.parse().expect("the upstream's port")).into(),
            name: name.clone(),
            authorization: format!("Bearer {token}").parse().expect("a token without line ends"),
            alpn: if speaks("h2-upstream") { ALPN::H2 } else { ALPN::H1 },
        },
    );
    if speaks("h2-app") {
        let mut options = HttpServerOptions::default();
        options.h2c = true;
        service.app_logic_mut().expect("a service that has not begun").server_options = Some(options);
    }
    service.add_tcp(&format!("127.0.0.1:{port}"));
    server.add_service(service);
    server.run_forever();
}
