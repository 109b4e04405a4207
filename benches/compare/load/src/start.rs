//! From a process's start to the first 200: it is asked again and again, on a connection of its own each time.

use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::{Outcome, PATIENCE, ask, request};
/// Between two attempts: what is measured is exact to about this. Without a pause the provider and the upstream, which run
/// on the same core, would wait for it.
const PAUSE: Duration = Duration::from_micros(50);

/// Ends the process when it goes.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[expect(clippy::disallowed_methods, reason = "one thread, which nobody else waits for")]
pub(crate) fn run(address: SocketAddr, path: &str, program: &str, arguments: &[&str]) -> Outcome {
    crate::sleep_exactly()?;
    let request = request(path);
    let began = Instant::now();
    let mut command = Command::new(program);
    let mut running = Running(command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?);
    let mut attempts = 0_u64;
    loop {
        attempts += 1;
        if let Ok(mut stream) = TcpStream::connect(address) {
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            if ask(&mut stream, &request).is_ok() {
                break;
            }
        }
        if let Some(status) = running.0.try_wait()? {
            return Err(format!("{program} ended: {status}").into());
        }
        if began.elapsed() > PATIENCE {
            return Err("no 200 in time".into());
        }
        std::thread::sleep(PAUSE);
    }
    println!("{{\"first\":{},\"attempts\":{attempts}}}", began.elapsed().as_micros());
    Ok(())
}
