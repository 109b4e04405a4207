//! From a process's start to the first 200: it is asked again and again without a pause, on a connection of its own each time.

use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::{Outcome, ask, request};

/// What is not there by then does not come.
const PATIENCE: Duration = Duration::from_secs(20);

/// Ends the process when it goes.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) fn run(address: SocketAddr, path: &str, program: &str, arguments: &[&str]) -> Outcome {
    let request = request(path);
    let began = Instant::now();
    let mut command = Command::new(program);
    let mut running = Running(command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?);
    let (mut attempts, mut accepted) = (0_u64, None);
    loop {
        attempts += 1;
        if let Ok(mut stream) = TcpStream::connect(address) {
            accepted.get_or_insert_with(|| began.elapsed());
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
        // Every attempt is a system call or two: the processor that the upstream needs as well is given away in between.
        std::thread::yield_now();
    }
    let micros = |time: Duration| time.as_micros();
    println!(
        "{{\"first\":{},\"accepted\":{},\"attempts\":{attempts},\"pid\":{}}}",
        micros(began.elapsed()),
        micros(accepted.unwrap_or_default()),
        running.0.id(),
    );
    // Until our input ends, so that whoever asked can look at the process.
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
