//! Both ends in HTTP/2, by prior knowledge and by h2 itself: between its frames and this there is nothing.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use h2::RecvStream;
use h2::client::SendRequest;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use tokio::net::TcpStream;

use super::Desk;
use super::exchange::{Exchange, Fields, Framing};
use super::sight::{Body, Message};
use crate::reliability::wire::Wire;
use crate::support::PATIENCE;

/// An app with one connection for all it asks.
pub(super) struct App {
    address: SocketAddr,
    sender: Option<SendRequest<Bytes>>,
}

impl App {
    pub(super) fn of(address: SocketAddr) -> Self {
        Self { address, sender: None }
    }

    pub(super) async fn ask(&mut self, exchange: &Exchange) -> Message {
        let asking = self.asked(exchange);
        let asked = tokio::time::timeout(PATIENCE, asking).await.unwrap_or_else(|_| panic!("no answer to {exchange}"));
        asked.unwrap_or_else(|error| panic!("{error} in the answer to {exchange}"))
    }

    async fn asked(&mut self, exchange: &Exchange) -> Result<Message, h2::Error> {
        let sender = match self.sender.take() {
            Some(sender) => sender,
            None => {
                let stream = TcpStream::connect(self.address).await.unwrap();
                stream.set_nodelay(true).unwrap();
                let (sender, connection) = h2::client::handshake(stream).await?;
                tokio::spawn(connection);
                sender
            }
        };
        let mut sender = sender.ready().await?;
        let asked = &exchange.request;
        let mut request = Request::new(());
        *request.method_mut() = asked.method.parse().unwrap();
        *request.uri_mut() = format!("http://{}{}", self.address, asked.target).parse().unwrap();
        *request.headers_mut() = head(&asked.fields, &asked.framing, asked.body.len());
        let ends = matches!(asked.framing, Framing::None);
        let (answer, mut stream) = sender.send_request(request, ends)?;
        if !ends {
            send(&mut stream, &asked.framing, &asked.body, &asked.trailers)?;
        }
        let (head, body) = answer.await?.into_parts();
        let mut message = Message {
            version: "2".to_owned(),
            start: format!("{} ", head.status.as_u16()),
            fields: fields(&head.headers),
            ..Message::default()
        };
        message.read(body).await?;
        self.sender = Some(sender);
        Ok(message)
    }
}

/// The API's side of a connection: notes what comes and says what the desk says.
pub(super) async fn serve(wire: Wire, desk: Arc<Desk>) {
    let mut connection = h2::server::handshake(wire.into_tcp()).await.unwrap();
    // One at a time, while the connection goes on.
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let desk = Arc::clone(&desk);
        tokio::spawn(async move {
            let (head, body) = request.into_parts();
            let target = head.uri.path_and_query().unwrap();
            let mut seen = Message {
                version: "2".to_owned(),
                start: format!("{} {target}", head.method),
                fields: fields(&head.headers),
                ..Message::default()
            };
            seen.fields.push(("host".to_owned(), head.uri.authority().unwrap().to_string()));
            if seen.read(body).await.is_err() {
                return;
            }
            desk.seen.lock().unwrap().push(seen);
            let exchange = desk.next.lock().unwrap().clone().unwrap();
            let said = &exchange.answer;
            let mut response = Response::new(());
            *response.status_mut() = said.status.try_into().unwrap();
            *response.headers_mut() = self::head(&said.fields, &said.framing, said.body.len());
            let ends = exchange.request.method == "HEAD" || said.is_bodiless();
            // Whoever has gone is not answered.
            let Ok(mut stream) = respond.send_response(response, ends) else { return };
            if !ends {
                let _ = send(&mut stream, &said.framing, &said.body, &said.trailers);
            }
        });
    }
}

impl Message {
    async fn read(&mut self, mut body: RecvStream) -> Result<(), h2::Error> {
        let mut data = Vec::new();
        while let Some(piece) = body.data().await {
            let piece = piece?;
            body.flow_control().release_capacity(piece.len())?;
            data.extend_from_slice(&piece);
        }
        self.body = Body(data);
        self.trailers = body.trailers().await?.iter().flat_map(fields).collect();
        Ok(())
    }
}

fn head(fields: &Fields, framing: &Framing, length: usize) -> HeaderMap {
    let mut map = map(fields);
    if matches!(framing, Framing::Length) {
        map.append("content-length", HeaderValue::from(length));
    }
    map
}

fn map(fields: &Fields) -> HeaderMap {
    let field = |(name, value): &(String, Vec<u8>)| {
        (HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_bytes(value).unwrap())
    };
    let mut map = HeaderMap::new();
    fields.iter().map(field).for_each(|(name, value)| _ = map.append(name, value));
    map
}

fn fields(map: &HeaderMap) -> Vec<(String, String)> {
    map.iter().map(|(name, value)| (name.to_string(), value.as_bytes().escape_ascii().to_string())).collect()
}

/// Data in pieces of the sizes that chunks have, and what follows.
fn send(
    stream: &mut h2::SendStream<Bytes>,
    framing: &Framing,
    body: &[u8],
    trailers: &Fields,
) -> Result<(), h2::Error> {
    let mut rest = Bytes::copy_from_slice(body);
    if let Framing::Chunks { sizes, .. } = framing {
        for size in sizes {
            stream.send_data(rest.split_to(*size), false)?;
        }
    }
    if trailers.is_empty() {
        return stream.send_data(rest, true);
    }
    // h2 takes the 101st empty frame that ends nothing, in the life of a connection, for an attack.
    if !rest.is_empty() {
        stream.send_data(rest, false)?;
    }
    stream.send_trailers(map(trailers))
}
