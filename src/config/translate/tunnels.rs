//! `tunnel` and `intercept` beside the routes: entries that do nothing, or far more than they look like.

use std::path::PathBuf;

use super::super::formats;
use super::super::problem::{Complaint, Path};
use super::Scribe;
use crate::rules::settings::RouteSettings;
use crate::rules::{TunnelHost, TunnelTo};

/// Top-level names that are no registry's: a company has its own machines below them (RFC 6762, appendix G; RFC 6761;
/// ICANN keeps `internal` free for this).
const PRIVATE: [&str; 9] = ["internal", "intranet", "private", "corp", "home", "lan", "local", "localhost", "test"];

pub(super) fn translate(scribe: &mut Scribe<'_>, written: &[String], routes: &[RouteSettings]) -> Vec<TunnelTo> {
    let root = Path::default().with("tunnel");
    let parsed = written.iter().enumerate().filter_map(|(index, to)| Some((index, formats::tunnel(to).ok()?)));
    let mut done = Vec::with_capacity(written.len());
    for (index, to) in parsed {
        // One entry need not be a list.
        let path = if scribe.is_there(&root.with(index)) { root.with(index) } else { root.clone() };
        if let TunnelHost::Below(parent) = &to.host
            && !parent.contains('.')
            && !PRIVATE.contains(&&**parent)
        {
            let what = format!("every host below `{parent}` is let through, which is a large part of the internet");
            scribe.warning(&path, Complaint::new(what).hint("name the hosts, or the domain that they are below"));
        }
        if let TunnelHost::One(host) = &to.host
            && let Some(route) = routes.iter().find(|route| {
                let upstream = &route.upstream;
                let is_there = upstream.authority.host == *host && upstream.port() == to.port;
                // Of a route for one listener, the entry is for the others.
                route.intercept && is_there && route.matching.listen.is_none()
            })
        {
            let what = format!("has no effect: the route `{}` intercepts what is for this place", route.name);
            let hint = "remove the entry, or leave `intercept` out of the route";
            scribe.warning(&path, Complaint::new(what).hint(hint));
        }
        done.push(to);
    }
    done
}

pub(super) fn ca_dir(scribe: &mut Scribe<'_>, written: String, routes: &[RouteSettings]) -> PathBuf {
    let path = Path::default().with("intercept").with("ca_dir");
    let is_idle = !routes.iter().any(|route| route.intercept);
    // With a route that could not be read, nobody knows whether it intercepts.
    if is_idle && scribe.is_there(&path) && scribe.report.problems.is_empty() {
        let complaint = Complaint::new("no route says `intercept: true`, so nothing is kept there");
        scribe.key_warning(&path, complaint.hint("say it in the routes that are meant, or leave the key out"));
    }
    PathBuf::from(written)
}
