//! The corpus in `tests/corpus`: messages that two parsers could cut differently, as data, and what becomes of them.
//!
//! `tests/corpus/README.md` describes the files. A file that is added there is a case more here.

mod api;
mod app;
mod format;
mod strict;

/// Names what went wrong, all of it.
fn assert_none(failures: &[String]) {
    assert!(failures.is_empty(), "{} of the corpus:\n{}", failures.len(), failures.join("\n"));
}
