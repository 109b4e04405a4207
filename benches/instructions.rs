//! What one request costs in instructions and in heap allocations, and whether that has grown.
//!
//! bearerd runs as a process of its own, whole, as `bearerd run` runs it, under callgrind; the app, the identity
//! provider and the API are in this one, so that nothing but bearerd is counted. What the kernel does for it is not:
//! `benches/compare/` measures that. See `benches/README.md`.

#![expect(clippy::print_stdout, reason = "its figures are what it is for")]

mod record;
mod stage;

use std::alloc::System;
use std::fs;
use std::hint::black_box;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use tokio::runtime::Builder;
use tokio::sync::mpsc;

use self::record::{Cost, Record, TOLERANCE, Verdict};
use self::stage::{App, CALLS, Stage};

/// Counts in two atomics, which is a few instructions an allocation and the same in every run.
#[global_allocator]
static HEAP: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const RECORD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/instructions.txt");

/// With this in its environment the process is the bearerd that is counted; it names the configuration.
const COUNTED: &str = "BEARERD_COUNTED";

/// Calls before anything is counted: buffers have grown, and hyper has found how much to read at once.
const WARM_UP: usize = 300;

/// Calls that are counted together. What bearerd does every second beside them is less than a thousandth of that.
const CALLED: usize = 1000;

/// How often that is done. The least of them counts: what comes in between adds.
const ROUNDS: usize = 3;

fn main() -> ExitCode {
    let outcome = match std::env::var_os(COUNTED) {
        Some(configuration) => be_counted(Path::new(&configuration)),
        None => judge(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs bearerd until standard input ends; every line there asks for the counters.
fn be_counted(configuration: &Path) -> Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let context = runtime.enter();
    let (bound, address) = stage::bind(configuration)?;
    drop(context);
    let (stop, stopped) = mpsc::channel(1);
    println!("{address}");
    std::thread::spawn(move || {
        for _ in std::io::stdin().lines().map_while(Result::ok) {
            marked();
            let stats = HEAP.stats();
            println!("{} {}", stats.allocations + stats.reallocations, stats.bytes_allocated);
        }
        stop.blocking_send("the end of the count")
    });
    runtime.block_on(bound.run(stopped))?;
    Ok(())
}

/// Where callgrind writes down what it has counted, and begins anew.
#[inline(never)]
fn marked() {
    black_box(());
}

fn judge() -> Result<()> {
    let stage = Stage::set("instructions")?;
    let valgrind = version("valgrind");
    let heap = count(&stage, None)?;
    let dumps = Path::new(env!("CARGO_TARGET_TMPDIR")).join("callgrind");
    let instructions = valgrind.is_some().then(|| count(&stage, Some(&dumps))).transpose()?;
    let mut measured = Record { with: conditions(valgrind.as_deref()), costs: Vec::new() };
    for (place, counters) in heap.into_iter().enumerate() {
        measured.costs.push(Cost {
            call: CALLS[place].name.to_owned(),
            instructions: instructions.as_ref().map(|all| all[place].instructions),
            allocations: counters.allocations,
            bytes: counters.bytes,
        });
    }
    print!("{measured}");
    if valgrind.is_some() {
        println!("where they are spent: callgrind_annotate --inclusive=yes {}/CALL", dumps.display());
    }
    if std::env::var_os("BLESS").is_some_and(|bless| bless == "1") {
        ensure!(valgrind.is_some(), "valgrind is not installed, and without it there is nothing to record");
        fs::write(RECORD, measured.to_string())?;
        println!("written to {RECORD}");
        return Ok(());
    }
    let text = fs::read_to_string(RECORD).with_context(|| RECORD)?;
    let record = Record::parse(&text).with_context(|| format!("{RECORD} is no record; BLESS=1 writes it anew"))?;
    match record.against(&measured) {
        Verdict::Holds => println!("within {TOLERANCE} % of what is recorded, and no more allocations"),
        Verdict::Fallen(fallen) => {
            println!("{}\nBLESS=1 records it, so that what was gained is held", fallen.join("\n"));
        }
        Verdict::NotComparable if valgrind.is_none() => {
            println!("skipped: instructions (valgrind is not installed); allocations are as recorded");
        }
        Verdict::NotComparable => println!(
            "skipped: instructions, which were recorded with {}, and this is {}; allocations are as recorded",
            record.with, measured.with
        ),
        Verdict::Grown(grown) => bail!("{}\nbenches/README.md says what to do", grown.join("\n")),
    }
    Ok(())
}

/// What decides how many instructions the same source has, besides the source. The C compiler's is aws-lc. Of compiler
/// and glibc the version is enough: what a distribution mends in one seldom changes the count. Under valgrind every
/// processor that has AVX2 says that it is the same one, whatever else it can do, so that libraries choose the same
/// code for it.
fn conditions(valgrind: Option<&str>) -> String {
    let rustc = version("rustc").unwrap_or_else(|| "unknown rustc".to_owned());
    let libc = told("getconf", "GNU_LIBC_VERSION").unwrap_or_else(|| "unknown libc".to_owned());
    let cc = version("cc").map_or_else(|| "unknown cc".to_owned(), |line| record::without_packager(&line));
    #[cfg(target_arch = "x86_64")]
    let features = if std::arch::is_x86_feature_detected!("avx2") { " with AVX2" } else { " without AVX2" };
    #[cfg(not(target_arch = "x86_64"))]
    let features = "";
    format!("{rustc}, {libc}, {cc}, {}, {}{features}", valgrind.unwrap_or("no valgrind"), std::env::consts::ARCH)
}

/// The first line of what a program says of itself; `None` where there is none.
fn version(program: &str) -> Option<String> {
    told(program, "--version")
}

fn told(program: &str, argument: &str) -> Option<String> {
    let output = Command::new(program).arg(argument).output().ok().filter(|output| output.status.success())?;
    String::from_utf8(output.stdout).ok()?.lines().next().map(str::to_owned)
}

/// What one request took. Less is what takes fewer instructions, or where nobody counted them fewer allocations.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Counters {
    /// 0 without callgrind.
    instructions: u64,
    allocations: u64,
    bytes: u64,
}

/// For each of [`CALLS`]. With a folder for its dumps it is callgrind that counts instructions.
fn count(stage: &Stage, dumps: Option<&Path>) -> Result<Vec<Counters>> {
    let mut counted = Counted::start(stage, dumps)?;
    let address = counted.line()?.parse()?;
    let mut all = Vec::new();
    for call in CALLS {
        let request = call.request(address);
        let mut app = App::connect(address)?;
        counted.calls(&mut app, &request, WARM_UP)?;
        let mut least: Option<Counters> = None;
        let (mut before, _) = counted.mark()?;
        for _ in 0..ROUNDS {
            counted.calls(&mut app, &request, CALLED)?;
            let (after, dump) = counted.mark()?;
            let each = |number: u64| (number + CALLED as u64 / 2) / CALLED as u64;
            let round = Counters {
                instructions: each(dump.as_deref().map_or(Ok(0), total)?),
                allocations: each(after.0 - before.0),
                bytes: each(after.1 - before.1),
            };
            before = after;
            if std::env::var_os("VERBOSE").is_some() {
                println!("{} {} {} {}", call.name, round.instructions, round.allocations, round.bytes);
            }
            if least.as_ref().is_none_or(|least| round < *least) {
                if let (Some(folder), Some(dump)) = (dumps, dump) {
                    fs::rename(dump, folder.join(call.name))?;
                }
                least = Some(round);
            }
        }
        all.extend(least);
    }
    Ok(all)
}

/// A bearerd in a process of its own.
struct Counted {
    child: Child,
    /// Closed, it ends.
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    dumps: Option<PathBuf>,
    /// How often it was marked.
    marks: usize,
}

impl Counted {
    fn start(stage: &Stage, dumps: Option<&Path>) -> Result<Self> {
        let own = std::env::current_exe()?;
        let mut command = match dumps {
            None => Command::new(own),
            Some(dumps) => {
                // From an earlier run, if there was one.
                let _ = fs::remove_dir_all(dumps);
                fs::create_dir_all(dumps)?;
                let mut command = Command::new("valgrind");
                command.args(["--tool=callgrind", "--quiet", "--dump-before=instructions::marked*"]);
                command.arg(format!("--callgrind-out-file={}/out", dumps.display()));
                command.arg(format!("--log-file={}/log", dumps.display())).arg(own);
                command
            }
        };
        command.env(COUNTED, stage.configuration()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().context("it has no standard output")?);
        Ok(Self { child, stdin, stdout, dumps: dumps.map(Path::to_owned), marks: 0 })
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        let read = self.stdout.read_line(&mut line)?;
        ensure!(read > 0, "the bearerd that is counted has ended{}", self.told());
        Ok(line.trim_end().to_owned())
    }

    fn calls(&self, app: &mut App, request: &[u8], number: usize) -> Result<()> {
        for _ in 0..number {
            app.call(request).with_context(|| format!("no good answer{}", self.told()))?;
        }
        Ok(())
    }

    /// Where more is told of what went wrong with it.
    fn told(&self) -> String {
        self.dumps.as_ref().map_or_else(String::new, |folder| format!("; see {}/log", folder.display()))
    }

    /// Allocations and their bytes until now, and the file with the instructions since the last mark.
    fn mark(&mut self) -> Result<((u64, u64), Option<PathBuf>)> {
        self.stdin.as_ref().context("it has no standard input")?.write_all(b"\n")?;
        self.marks += 1;
        let line = self.line()?;
        let (allocations, bytes) = line.split_once(' ').context("it did not answer with two numbers")?;
        let dump = self.dumps.as_ref().map(|folder| folder.join(format!("out.{}", self.marks)));
        Ok(((allocations.parse()?, bytes.parse()?), dump))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        // Not killed: other tools of valgrind's than callgrind write at the end, and it has nothing to finish.
        drop(self.stdin.take());
        let _ = self.child.wait();
    }
}

/// How many instructions a dump tells of.
fn total(dump: &Path) -> Result<u64> {
    let text = fs::read_to_string(dump).with_context(|| format!("cannot read {}", dump.display()))?;
    let total = text.lines().rev().find_map(|line| line.strip_prefix("totals: "));
    Ok(total.with_context(|| format!("no totals in {}", dump.display()))?.trim().parse()?)
}
