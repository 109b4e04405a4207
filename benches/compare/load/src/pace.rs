//! Requests at a fixed rate, as they come to a proxy from many apps that know nothing of each other: the gaps are random,
//! the same ones in each run, and a request that was due counts from then on, also while no connection is free for it. h2load
//! times a request from when it was sent, and at rates like these sends in bursts of 10 ms; wrk has no rate.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};

use crate::{Outcome, is_whole, request, sleep_exactly};

struct Connection {
    stream: TcpStream,
    answer: [u8; 4096],
    length: usize,
    due: Duration,
    free_since: Duration,
}

/// Gaps of a Poisson process, by xorshift from a fixed seed.
struct Gaps {
    state: u64,
    mean: f64,
}

impl Iterator for Gaps {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        // Between 0 and 1, and neither.
        let share = ((self.state >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
        Some(Duration::from_secs_f64(-share.ln() * self.mean))
    }
}

pub(crate) fn run(address: SocketAddr, path: &str, count: usize, rate: f64, seconds: f64) -> Outcome {
    sleep_exactly()?;
    let request = request(path);
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let mut connections = Vec::with_capacity(count);
    for number in 0..count {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        epoll::add(&poll, &stream, epoll::EventData::new_u64(number as u64), epoll::EventFlags::IN)?;
        let never = Duration::ZERO;
        connections.push(Connection { stream, answer: [0; 4096], length: 0, due: never, free_since: never });
    }
    // The one that has waited longest is next, so that all of them are used.
    let mut free: VecDeque<usize> = (0..count).collect();
    let mut waiting: VecDeque<Duration> = VecDeque::new();
    let mut gaps = Gaps { state: 0x9E37_79B9_7F4A_7C15, mean: 1.0 / rate };
    let expected = (rate * seconds * 1.1) as usize;
    let (mut times, mut late) = (Vec::with_capacity(expected), Vec::with_capacity(expected));
    let mut events = Vec::with_capacity(count);
    // Connections are made, and pools filled, in the first fifth of a second, which does not count.
    let warm = Duration::from_millis(200);
    let end = warm + Duration::from_secs_f64(seconds);
    let began = Instant::now();
    let mut next = Duration::ZERO;
    let (mut under_way, mut sent) = (0, 0);
    let mut last = warm;
    loop {
        let now = began.elapsed();
        while next <= now && next < end {
            waiting.push_back(next);
            next += gaps.next().ok_or("gaps have no end")?;
        }
        while let (Some(&due), Some(&number)) = (waiting.front(), free.front()) {
            waiting.pop_front();
            free.pop_front();
            let connection = &mut connections[number];
            connection.due = due;
            connection.length = 0;
            connection.stream.write_all(&request)?;
            under_way += 1;
            sent += 1;
            if due >= warm {
                // While there was no free connection it was the proxy that was late.
                late.push(began.elapsed() - due.max(connection.free_since));
            }
        }
        if next >= end && waiting.is_empty() && under_way == 0 {
            break;
        }
        let now = began.elapsed();
        let pause = if next >= end { Duration::from_millis(100) } else { next.saturating_sub(now) };
        if now > end + Duration::from_secs(10) {
            return Err(format!("{under_way} requests have no answer after 10 s").into());
        }
        let pause = Timespec { tv_sec: pause.as_secs() as i64, tv_nsec: pause.subsec_nanos().into() };
        events.clear();
        epoll::wait(&poll, rustix::buffer::spare_capacity(&mut events), Some(&pause))?;
        for event in &events {
            let number = event.data.u64() as usize;
            let connection = &mut connections[number];
            match connection.stream.read(&mut connection.answer[connection.length..]) {
                Ok(0) => return Err("a connection was ended".into()),
                Ok(more) => connection.length += more,
                Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error.into()),
            }
            if is_whole(&connection.answer[..connection.length])? {
                let now = began.elapsed();
                connection.free_since = now;
                if connection.due >= warm {
                    times.push(now - connection.due);
                    last = now;
                }
                under_way -= 1;
                free.push_back(number);
            }
        }
    }
    times.sort_unstable();
    late.sort_unstable();
    let at = |sorted: &[Duration], share: f64| {
        sorted
            .get(((sorted.len() as f64 * share) as usize).min(sorted.len().saturating_sub(1)))
            .map_or(0, |time| time.as_micros())
    };
    println!(
        "{{\"sent\":{sent},\"seconds\":{},\"p50\":{},\"p99\":{},\"p999\":{},\"most\":{},\"lateP50\":{},\"lateP99\":{}}}",
        (last - warm).as_secs_f64(),
        at(&times, 0.5),
        at(&times, 0.99),
        at(&times, 0.999),
        at(&times, 1.0),
        at(&late, 0.5),
        at(&late, 0.99),
    );
    Ok(())
}
