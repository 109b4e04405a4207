//! Connections that nobody uses any more: each has had one answer, and stays open until our input ends.

use std::io::Read;
use std::net::{SocketAddr, TcpStream};

use crate::{Outcome, PATIENCE, ask, request};

pub(crate) fn run(address: SocketAddr, path: &str, count: usize) -> Outcome {
    let request = request(path);
    let mut open = Vec::with_capacity(count);
    for number in 0..count {
        let mut stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        ask(&mut stream, &request).map_err(|error| format!("connection {number}: {error}"))?;
        open.push(stream);
    }
    println!("{{\"open\":{count}}}");
    std::io::stdin().read_to_end(&mut Vec::new())?;
    // Whoever was told that they are idle has to have kept them: an answer on each of them says so.
    for stream in &mut open {
        ask(stream, &request)?;
    }
    println!("{{\"answered\":{count}}}");
    Ok(())
}
