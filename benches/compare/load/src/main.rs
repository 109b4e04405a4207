//! The loads that wrk, h2load and curl cannot give. Each prints one line of JSON, and fails where an answer is not a 200.
//!
//!     bench-load pace PORT PATH CONNECTIONS RATE SECONDS   requests at a fixed rate, timed from when they were due
//!     bench-load idle PORT PATH CONNECTIONS                one request on each connection, which then stays open
//!     bench-load start PORT PATH COMMAND…                  from a process's start to the first 200 that it gives

mod idle;
mod pace;
mod start;

use std::error::Error;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::num::NonZeroU64;
use std::str::FromStr;
use std::time::Duration;

type Outcome = Result<(), Box<dyn Error>>;

/// What is not there by then does not come.
const PATIENCE: Duration = Duration::from_secs(20);

fn address(port: &str) -> Result<SocketAddr, Box<dyn Error>> {
    Ok(SocketAddr::from(([127, 0, 0, 1], number(port)?)))
}

fn number<N: FromStr<Err: Error + 'static>>(text: &str) -> Result<N, Box<dyn Error>> {
    Ok(text.parse()?)
}

fn request(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").into_bytes()
}

/// Sleeps may end 50 µs late by default.
fn sleep_exactly() -> Outcome {
    Ok(rustix::thread::set_current_timer_slack(NonZeroU64::new(1))?)
}

/// Whether what has come is a whole answer with a 200; an error for any other.
fn is_whole(answer: &[u8]) -> Result<bool, Box<dyn Error>> {
    let Some(head) = answer.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(false) };
    let text = std::str::from_utf8(&answer[..head])?;
    if !text.starts_with("HTTP/1.1 200 ") {
        return Err(format!("not a 200: {}", text.lines().next().unwrap_or_default()).into());
    }
    let length = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    Ok(answer.len() >= head + 4 + length.ok_or("an answer without a content-length")?)
}

/// One request and its answer.
fn ask(stream: &mut TcpStream, request: &[u8]) -> Outcome {
    stream.write_all(request)?;
    let (mut answer, mut length) = ([0; 4096], 0);
    while !is_whole(&answer[..length])? {
        let more = stream.read(&mut answer[length..])?;
        if more == 0 {
            return Err("the connection ended before the answer did".into());
        }
        length += more;
    }
    Ok(())
}

fn main() -> Outcome {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["pace", port, path, connections, rate, seconds] => {
            pace::run(address(port)?, path, number(connections)?, number(rate)?, number(seconds)?)
        }
        ["idle", port, path, connections] => idle::run(address(port)?, path, number(connections)?),
        ["start", port, path, program, rest @ ..] => start::run(address(port)?, path, program, rest),
        _ => Err("pace, idle or start; see the top of main.rs".into()),
    }
}
