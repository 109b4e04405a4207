//! A name server of our own, and bearerd where the system's resolver asks it: what getaddrinfo does with its answers is
//! what a user's machine does.
//!
//! Must never know what is behind an address.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;

use crate::support::Folder;

/// What the server says about a name. Of one that it was told nothing about it says that there is none.
#[derive(Clone, Debug)]
pub(super) enum Says {
    /// These, and over UDP where there are several, that they are too many for that (RFC 1035, 4.2.1).
    At(Vec<Ipv4Addr>),
    /// SERVFAIL.
    Fails,
    /// NXDOMAIN.
    Nowhere,
    Nothing,
    /// This address, after so long.
    Late(Duration, Ipv4Addr),
}

/// On port 53 of a loopback address that is nobody else's.
pub(super) struct NameServer {
    pub(super) address: Ipv4Addr,
    zone: Arc<Zone>,
    _serving: JoinSet<()>,
}

#[derive(Default)]
struct Zone {
    names: Mutex<HashMap<String, Says>>,
    /// Questions by name.
    asked: Mutex<HashMap<String, u64>>,
}

/// Mounts `$1` over the resolver's file and `$2` over the order in which it asks, and becomes what follows.
const SCRIPT: &str = "mount --bind \"$1\" /etc/resolv.conf || exit 99
    [ ! -e /etc/nsswitch.conf ] || mount --bind \"$2\" /etc/nsswitch.conf || exit 99
    shift 2; exec \"$@\"";

impl NameServer {
    /// # Errors
    /// This user, or this machine, cannot have one: why.
    pub(super) async fn start(folder: &Folder) -> Result<Self, String> {
        let [_, b, c, d] = fastrand::u32(..).to_be_bytes();
        let address = Ipv4Addr::new(127, b.max(1), c, d.clamp(1, 200));
        let bound = async {
            Ok::<_, std::io::Error>((UdpSocket::bind((address, 53)).await?, TcpListener::bind((address, 53)).await?))
        };
        let (udp, tcp) = bound.await.map_err(|error| format!("port 53 of a loopback address: {error}"))?;
        folder.write("resolv.conf", &format!("nameserver {address}\noptions timeout:1 attempts:2\n"));
        folder.write("nsswitch.conf", "hosts: files dns\n");
        let zone = Arc::<Zone>::default();
        let mut serving = JoinSet::new();
        serving.spawn(over_udp(Arc::new(udp), Arc::clone(&zone)));
        serving.spawn(over_tcp(tcp, Arc::clone(&zone)));
        let server = Self { address, zone, _serving: serving };
        let tried = server.wrap(folder, &Command::new("true")).stdin(Stdio::null()).output();
        let tried = tried.map_err(|error| format!("unshare: {error}"))?;
        if !tried.status.success() {
            return Err(format!("a mount namespace: {}", String::from_utf8_lossy(&tried.stderr).trim()));
        }
        Ok(server)
    }

    /// The same program where this server is the system's.
    pub(super) fn wrap(&self, folder: &Folder, program: &Command) -> Command {
        let mut command = Command::new("unshare");
        command.args(["-rm", "sh", "-c", SCRIPT, "sh"]);
        command.args([folder.path("resolv.conf"), folder.path("nsswitch.conf")]);
        command.arg(program.get_program()).args(program.get_args());
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        if let Some(own) = program.get_current_dir() {
            command.current_dir(own).env("TMPDIR", own);
        }
        command
    }

    /// An address near its own, which is nobody else's either.
    pub(super) fn near(&self, number: u8) -> Ipv4Addr {
        let [a, b, c, d] = self.address.octets();
        Ipv4Addr::new(a, b, c, d + number)
    }

    pub(super) fn says(&self, name: &str, says: Says) {
        self.zone.names.lock().unwrap().insert(name.to_owned(), says);
    }

    /// How often somebody asked for it.
    pub(super) fn asked(&self, name: &str) -> u64 {
        self.zone.asked.lock().unwrap().get(name).copied().unwrap_or_default()
    }
}

impl Zone {
    /// The answer to a message, and how long it takes. `None` to what is no question, and where nothing is said.
    fn answer(&self, message: &[u8], is_udp: bool) -> Option<(Vec<u8>, Duration)> {
        let (mut name, mut at) = (Vec::new(), 12);
        loop {
            let length = usize::from(*message.get(at)?);
            let label = message.get(at + 1..at + 1 + length)?;
            at += 1 + length;
            if length == 0 {
                break;
            }
            name.push(str::from_utf8(label).ok()?.to_ascii_lowercase());
        }
        let (name, question) = (name.join("."), message.get(12..at + 4)?);
        let wants_ipv4 = question[question.len() - 4..] == [0, 1, 0, 1];
        *self.asked.lock().unwrap().entry(name.clone()).or_default() += 1;
        let says = self.names.lock().unwrap().get(&name).cloned().unwrap_or(Says::Nowhere);
        let (code, addresses, after) = match says {
            Says::At(addresses) => (0, addresses, Duration::ZERO),
            Says::Late(after, address) => (0, vec![address], after),
            Says::Fails => (2, Vec::new(), Duration::ZERO),
            Says::Nowhere => (3, Vec::new(), Duration::ZERO),
            Says::Nothing => return None,
        };
        let is_too_long = is_udp && wants_ipv4 && addresses.len() > 1;
        let addresses = if wants_ipv4 && !is_too_long { addresses } else { Vec::new() };
        // The same id; an answer, with recursion, and perhaps truncated.
        let mut answer = message[..2].to_vec();
        answer.extend([
            if is_too_long { 0x83 } else { 0x81 },
            0x80 | code,
            0,
            1,
            0,
            u8::try_from(addresses.len()).ok()?,
        ]);
        answer.extend([0; 4]);
        answer.extend(question);
        for address in addresses {
            // The name of the question, A, IN, not to be kept, four bytes.
            answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
            answer.extend(address.octets());
        }
        Some((answer, after))
    }
}

async fn over_udp(socket: Arc<UdpSocket>, zone: Arc<Zone>) {
    let mut answers = JoinSet::new();
    let mut message = [0; 1024];
    loop {
        // Who asked may be gone, which a later call is told of.
        let Ok((length, from)) = socket.recv_from(&mut message).await else { continue };
        if let Some((answer, after)) = zone.answer(&message[..length], true) {
            answers.spawn(send_later(Arc::clone(&socket), answer, from, after));
        }
        while answers.try_join_next().is_some() {}
    }
}

async fn send_later(socket: Arc<UdpSocket>, answer: Vec<u8>, to: SocketAddr, after: Duration) {
    tokio::time::sleep(after).await;
    let _ = socket.send_to(&answer, to).await;
}

async fn over_tcp(listener: TcpListener, zone: Arc<Zone>) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        connections.spawn(answer_all(stream, Arc::clone(&zone)));
        while connections.try_join_next().is_some() {}
    }
}

/// Until who asks is gone.
async fn answer_all(mut stream: TcpStream, zone: Arc<Zone>) -> std::io::Result<()> {
    loop {
        let mut message = vec![0; usize::from(stream.read_u16().await?)];
        stream.read_exact(&mut message).await?;
        if let Some((answer, after)) = zone.answer(&message, false) {
            tokio::time::sleep(after).await;
            stream.write_all(&[&u16::try_from(answer.len()).unwrap().to_be_bytes(), &answer[..]].concat()).await?;
        }
    }
}
