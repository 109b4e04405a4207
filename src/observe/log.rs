//! One line an event: a sentence on a terminal, a JSON object elsewhere.
//!
//! The level speaks of bearerd's own events only. What libraries would log at `trace` holds header bytes, so none of it
//! is ever listened to: that is how no level can print a token.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::SystemTime;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::ser::{Serialize, SerializeMap as _, Serializer};

use super::event::{Event, Line};

/// How much is said; each level includes the ones before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Requests fail, or will, until somebody acts.
    Error,
    /// Something is wrong that bearerd copes with for now.
    Warn,
    Info,
    Debug,
    Trace,
}

impl Level {
    fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }

    /// Red, yellow, green, grey (ECMA-48, SGR).
    fn colour(self) -> &'static str {
        match self {
            Self::Error => "\u{1b}[1;31m",
            Self::Warn => "\u{1b}[33m",
            Self::Info => "\u{1b}[32m",
            Self::Debug | Self::Trace => "\u{1b}[90m",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Pretty on a terminal, JSON elsewhere.
    Auto,
    Pretty,
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogSettings {
    pub level: Level,
    pub format: Format,
}

/// Where finished lines go, each with its newline; says whether there was room for it.
type Sink = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// Writes events as lines.
#[derive(Clone)]
pub struct Log {
    /// The last that is said.
    level: Arc<AtomicU8>,
    json: Arc<AtomicBool>,
    /// Where nothing else is said, it is for a machine.
    for_machines: bool,
    coloured: bool,
    sink: Sink,
    /// Lines that found no room, and that no line has told of yet.
    lost: Arc<AtomicU64>,
}

impl Log {
    /// To standard error, which is a terminal or is not.
    pub fn stderr(settings: LogSettings) -> Self {
        let is_terminal = std::io::stderr().is_terminal();
        let coloured = is_terminal && wants_colour(|name| std::env::var_os(name));
        let cut = AtomicBool::new(false);
        let sink = Arc::new(move |line: &str| write_if_room(line.as_bytes(), &cut));
        Self::new(settings, !is_terminal, coloured, sink)
    }

    /// To somewhere else: the demo's story, a test's ear.
    pub fn to(settings: LogSettings, sink: impl Fn(&str) + Send + Sync + 'static) -> Self {
        let sink = Arc::new(move |line: &str| {
            sink(line);
            true
        });
        Self::new(settings, false, false, sink)
    }

    fn new(settings: LogSettings, for_machines: bool, coloured: bool, sink: Sink) -> Self {
        let (level, json, lost) = (Arc::default(), Arc::default(), Arc::default());
        let log = Self { level, json, for_machines, coloured, sink, lost };
        log.change(settings);
        log
    }

    /// From now on it is so, in all of its clones.
    pub(super) fn change(&self, settings: LogSettings) {
        let json = match settings.format {
            Format::Auto => self.for_machines,
            Format::Pretty => false,
            Format::Json => true,
        };
        self.level.store(settings.level as u8, Ordering::Relaxed);
        self.json.store(json, Ordering::Relaxed);
    }

    pub(super) fn says(&self, level: Level) -> bool {
        level as u8 <= self.level.load(Ordering::Relaxed)
    }

    /// Never waits. A line that finds no room is lost; the next one that does is preceded by one that says so.
    pub(super) fn write(&self, line: &Line) {
        let lost = self.lost.swap(0, Ordering::Relaxed);
        let is_told = lost == 0 || (self.sink)(&self.text(&Event::LogLost { lines: lost }.line()));
        if !is_told {
            self.lost.fetch_add(lost, Ordering::Relaxed);
        }
        if !is_told || !(self.sink)(&self.text(line)) {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn text(&self, line: &Line) -> String {
        let now = humantime::format_rfc3339_millis(SystemTime::now());
        let mut text = String::with_capacity(160);
        if self.json.load(Ordering::Relaxed) {
            // Texts and finite numbers always serialise.
            text = serde_json::to_string(&Object { time: now.to_string(), line }).unwrap_or_default();
        } else {
            // Writing to a String cannot fail.
            let (colour, plain) = if self.coloured { (line.level.colour(), "\u{1b}[0m") } else { ("", "") };
            let _ = write!(text, "{now} {colour}{:<5}{plain} {}", line.level.as_str(), Escaped(&line.message));
        }
        text.push('\n');
        text
    }
}

/// A pipe that can be written to takes this much at once (POSIX, `PIPE_BUF`: 4096 on Linux, 512 on others).
const PIECE: usize = if cfg!(target_os = "linux") { 4096 } else { 512 };

/// Writes to standard error what it takes at once, and says whether that was all.
///
/// Behind a pipe may be somebody who reads no more, and a worker that waits for them carries no traffic. (To make the pipe
/// non-blocking would make it so for all who share it.) `cut` is whether the last line was not finished.
fn write_if_room(line: &[u8], cut: &AtomicBool) -> bool {
    let mut stderr = std::io::stderr().lock();
    let mut write = |piece: &[u8]| {
        let mut ready = [PollFd::new(&stderr, PollFlags::OUT)];
        let no_time = Timespec { tv_sec: 0, tv_nsec: 0 };
        // A closed one takes nothing, and there is nobody left to tell.
        matches!(poll(&mut ready, Some(&no_time)), Ok(1..)) && stderr.write_all(piece).is_ok()
    };
    if cut.load(Ordering::Relaxed) {
        if !write(b"\n") {
            return false;
        }
        cut.store(false, Ordering::Relaxed);
    }
    for (index, piece) in line.chunks(PIECE).enumerate() {
        if !write(piece) {
            cut.store(index > 0, Ordering::Relaxed);
            return false;
        }
    }
    true
}

/// Whether whoever sits at the terminal wants colours (no-color.org), and it has any.
fn wants_colour(variable: impl Fn(&str) -> Option<OsString>) -> bool {
    let says_no = variable("NO_COLOR").is_some_and(|value| !value.is_empty());
    !says_no && variable("TERM").is_some_and(|terminal| terminal != "dumb")
}

/// A line as JSON, its time first: that is how people read the raw thing.
struct Object<'a> {
    time: String,
    line: &'a Line,
}

impl Serialize for Object<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Line { level, event, message, fields } = self.line;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("time", &self.time)?;
        map.serialize_entry("level", level.as_str())?;
        map.serialize_entry("event", event)?;
        map.serialize_entry("message", message)?;
        fields.iter().try_for_each(|(name, value)| map.serialize_entry(name, value))?;
        map.end()
    }
}

/// A text in which nothing can start a new line or steer a terminal.
struct Escaped<'a>(&'a str);

impl std::fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for character in self.0.chars() {
            if character.is_control() {
                write!(f, "{}", character.escape_default())?;
            } else {
                f.write_char(character)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    fn written(format: Format, message: &str) -> String {
        let lines = Arc::new(Mutex::new(String::new()));
        let sink = Arc::clone(&lines);
        let log = Log::to(LogSettings { level: Level::Info, format }, move |line| sink.lock().unwrap().push_str(line));
        log.write(&Line {
            level: Level::Warn,
            event: "test",
            message: message.into(),
            fields: vec![("token", "orders".into())],
        });
        let lines = lines.lock().unwrap();
        lines.clone()
    }

    #[test]
    fn a_line_is_one_line_whatever_is_in_it() {
        let line = written(Format::Pretty, "a\nb\u{1b}[31m");
        assert!(line.ends_with(" warn  a\\nb\\u{1b}[31m\n"), "{line:?}");
        assert_eq!(written(Format::Json, "a\nb\u{1b}").lines().count(), 1);
    }

    #[test]
    fn colour_is_for_a_terminal_whose_user_did_not_say_no() {
        let wants = |terminal: &str, no_colour: Option<&str>| {
            wants_colour(|name| match name {
                "TERM" => Some(terminal.into()),
                _ => no_colour.map(OsString::from),
            })
        };
        assert!(wants("xterm", None) && wants("xterm", Some("")));
        assert!(!wants("xterm", Some("1")) && !wants("dumb", None) && !wants_colour(|_| None));
        let mut log = Log::to(LogSettings { level: Level::Info, format: Format::Pretty }, |line| {
            assert!(line.contains(" \u{1b}[33mwarn \u{1b}[0m words\n"), "{line:?}");
        });
        log.coloured = true;
        log.write(&Line { level: Level::Warn, event: "test", message: "words".into(), fields: vec![] });
    }

    #[test]
    fn a_line_that_found_no_room_is_counted_in_the_next_that_does() {
        let (room, taken) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(String::new())));
        let (has_room, into) = (Arc::clone(&room), Arc::clone(&taken));
        let mut log = Log::to(LogSettings { level: Level::Info, format: Format::Pretty }, |_| {});
        log.sink = Arc::new(move |line| {
            let has_room = has_room.load(Ordering::Relaxed);
            if has_room {
                into.lock().unwrap().push_str(line);
            }
            has_room
        });
        let write = |message: &str| {
            log.write(&Line { level: Level::Info, event: "test", message: message.into(), fields: vec![] });
        };
        for message in ["one", "two", "three"] {
            write(message);
        }
        room.store(true, Ordering::Relaxed);
        for message in ["four", "five"] {
            write(message);
        }
        let taken = taken.lock().unwrap();
        let messages: Vec<_> = taken.lines().map(|line| line.splitn(3, ' ').nth(2).unwrap().trim()).collect();
        let [lost, "four", "five"] = &messages[..] else { panic!("{taken}") };
        assert!(lost.contains("3 lines of this log were lost"), "{lost}");
    }

    #[test]
    fn json_has_stable_names() {
        let line = written(Format::Json, "words");
        assert!(line.starts_with("{\"time\":\""), "{line}");
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(line["level"], "warn");
        assert_eq!(line["event"], "test");
        assert_eq!(line["message"], "words");
        assert_eq!(line["token"], "orders");
        assert!(line["time"].as_str().unwrap().ends_with('Z'));
    }
}
