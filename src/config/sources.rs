//! The flags and environment variables, each declared once, and how they go over the file.
//!
//! The table is what `cli` makes its flags from, what the reference page lists and what a misspelt variable is compared
//! with. A flag beats a variable, a variable beats the file; they go into the tree before it is checked, so that a
//! problem names the flag or variable that it came from. Must never know what a key means.

use std::collections::BTreeMap;
use std::ffi::OsString;

use super::problem::{Complaint, Path, Place, Problem, Report, did_you_mean, nearest};
use super::tree::{Node, Scalar, Value};

/// The variables of this process, or a test's.
pub type Environment = BTreeMap<String, OsString>;

/// What is usable of [`std::env::vars_os`]: a variable whose name is not text is nobody's.
pub fn environment(variables: impl Iterator<Item = (OsString, OsString)>) -> Environment {
    variables.filter_map(|(name, value)| Some((name.into_string().ok()?, value))).collect()
}

/// One setting that needs no file.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Without the two dashes.
    pub flag: &'static str,
    pub variable: &'static str,
    /// What stands for the value in `--help`.
    pub value: &'static str,
    pub help: &'static str,
    /// The value is a secret: `cli` takes the flag only so that [`load`](super::load) can refuse it.
    pub secret: bool,
    targets: &'static [Target],
    form: Form,
}

/// A key that a setting sets.
#[derive(Clone, Copy, Debug)]
struct Target {
    of: Of,
    keys: &'static [&'static str],
    /// A key beside it that says the same in another way, and goes when this one comes from a stronger source.
    instead_of: Option<&'static str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Of {
    Document,
    /// The token named [`DEFAULT`].
    Token,
    /// The route named [`DEFAULT`].
    Route,
}

#[derive(Clone, Copy, Debug)]
enum Form {
    Text,
    /// Spaces between.
    Words,
    /// Commas or spaces between.
    Addresses,
    /// The path of a file that holds the value.
    File,
}

/// What every variable begins with.
const PREFIX: &str = "BEARERD_";

/// What the one route and its token are called.
pub const DEFAULT: &str = "default";

const fn target(of: Of, keys: &'static [&'static str]) -> Target {
    Target { of, keys, instead_of: None }
}

const fn setting(
    flag: &'static str,
    variable: &'static str,
    value: &'static str,
    help: &'static str,
    targets: &'static [Target],
) -> Setting {
    Setting { flag, variable, value, help, secret: false, targets, form: Form::Text }
}

pub const CONFIG: Setting = setting(
    "config",
    "BEARERD_CONFIG",
    "FILE",
    "The configuration file; without it, flags and variables if they name an upstream, else /etc/bearerd/config.yaml",
    &[],
);

pub const SETTINGS: &[Setting] = &[
    CONFIG,
    setting(
        "upstream",
        "BEARERD_UPSTREAM",
        "URL",
        "Where requests go, such as https://api.example.com",
        &[target(Of::Route, &["upstream"])],
    ),
    setting(
        "token-url",
        "BEARERD_TOKEN_URL",
        "URL",
        "The token endpoint, such as https://id.example.com/oauth2/token",
        &[Target { instead_of: Some("issuer"), ..target(Of::Token, &["token_url"]) }],
    ),
    setting(
        "issuer",
        "BEARERD_ISSUER",
        "URL",
        "The issuer, whose token endpoint is found by discovery; instead of the token URL",
        &[Target { instead_of: Some("token_url"), ..target(Of::Token, &["issuer"]) }],
    ),
    setting(
        "provider",
        "BEARERD_PROVIDER",
        "NAME",
        "A preset for a known provider, such as okta; `bearerd init` lists them",
        &[target(Of::Token, &["provider"])],
    ),
    setting(
        "auth",
        "BEARERD_AUTH",
        "METHOD",
        "How the client proves who it is, such as client_secret_basic (default) or client_secret_post",
        &[target(Of::Token, &["auth"])],
    ),
    setting(
        "client-id",
        "BEARERD_CLIENT_ID",
        "ID",
        "The client's identifier at the provider",
        &[target(Of::Token, &["client_id"])],
    ),
    Setting {
        secret: true,
        ..setting(
            "client-secret",
            "BEARERD_CLIENT_SECRET",
            "SECRET",
            "The client's secret; as a variable only, since every user can read a command line",
            &[target(Of::Token, &["client_secret"])],
        )
    },
    Setting {
        form: Form::File,
        ..setting(
            "client-secret-file",
            "BEARERD_CLIENT_SECRET_FILE",
            "FILE",
            "A file that holds the client's secret and is read again when it changes",
            &[target(Of::Token, &["client_secret"])],
        )
    },
    setting(
        "scope",
        "BEARERD_SCOPE",
        "SCOPE",
        "What the token is to be good for, with spaces between",
        &[target(Of::Token, &["scope"])],
    ),
    setting(
        "audience",
        "BEARERD_AUDIENCE",
        "AUDIENCE",
        "The audience parameter of the token request",
        &[target(Of::Token, &["audience"])],
    ),
    Setting {
        form: Form::Words,
        ..setting(
            "resource",
            "BEARERD_RESOURCE",
            "URI",
            "The API that the token is for (RFC 8707); several with spaces between",
            &[target(Of::Token, &["resource"])],
        )
    },
    setting(
        "ca-file",
        "BEARERD_CA_FILE",
        "FILE",
        "PEM certificates to trust instead of the system's, for the provider and the upstream",
        &[target(Of::Token, &["tls", "ca_file"]), target(Of::Route, &["tls", "ca_file"])],
    ),
    Setting {
        form: Form::Addresses,
        ..setting(
            "listen",
            "BEARERD_LISTEN",
            "ADDRESS",
            "Where apps connect; localhost:4280 by default, several with commas between",
            &[target(Of::Document, &["listen"])],
        )
    },
    setting(
        "admin",
        "BEARERD_ADMIN",
        "ADDRESS",
        "Where health, metrics and status are served; localhost:4281 by default, or off",
        &[target(Of::Document, &["admin"])],
    ),
    setting(
        "health",
        "BEARERD_HEALTH",
        "ADDRESS",
        "Where the pages for a kubelet are served besides, such as 0.0.0.0:4282; off by default",
        &[target(Of::Document, &["health"])],
    ),
    setting(
        "log-level",
        "BEARERD_LOG_LEVEL",
        "LEVEL",
        "How much is logged: error, warn, info (default), debug or trace",
        &[target(Of::Document, &["log", "level"])],
    ),
];

/// How to set one of these keys of the token or the route without a file.
pub fn cure(keys: &[&str]) -> Option<String> {
    let sets = |target: &Target| matches!(target.keys, [key] if keys.contains(key));
    let words: Vec<String> = SETTINGS
        .iter()
        .filter(|setting| setting.targets.iter().any(sets))
        .map(|setting| match setting.secret {
            true => format!("`{}`", setting.variable),
            false => format!("`{}` (`--{}`)", setting.variable, setting.flag),
        })
        .collect();
    (!words.is_empty()).then(|| format!("set {}", words.join(" or ")))
}

/// One value from outside the file.
struct Given {
    setting: &'static Setting,
    place: Place,
    text: String,
}

/// What flags and variables say, the stronger last.
pub struct Overlay {
    variables: Vec<Given>,
    flags: Vec<Given>,
}

impl Overlay {
    /// Reads the flags as `cli` took them, by name and value, and the variables. An empty variable is as good as none:
    /// that is how Compose and shell scripts leave one out.
    pub fn read(flags: &[(String, String)], environment: &Environment, report: &mut Report) -> Self {
        let mut overlay = Self { variables: Vec::new(), flags: Vec::new() };
        for (name, value) in environment.iter().filter(|(name, value)| name.starts_with(PREFIX) && !value.is_empty()) {
            let place = Place::Environment(name.as_str().into());
            let Some(setting) = SETTINGS.iter().find(|setting| setting.variable == name) else {
                if !is_foreign(name) {
                    report.warnings.push(Problem::new(place, &Path::default(), unknown_variable(name)));
                }
                continue;
            };
            match value.to_str() {
                Some(text) => overlay.variables.push(Given { setting, place, text: text.to_owned() }),
                None => {
                    report.problems.push(Problem::new(place, &Path::default(), Complaint::new("is not UTF-8")));
                }
            }
        }
        for (name, value) in flags {
            let place = Place::Flag(name.as_str().into());
            let Some(setting) = SETTINGS.iter().find(|setting| setting.flag == name) else {
                let what = format!("not a flag{}", did_you_mean(name, SETTINGS.iter().map(|setting| setting.flag)));
                report.problems.push(Problem::new(place, &Path::default(), Complaint::new(what)));
                continue;
            };
            if setting.secret {
                let what = format!(
                    "a secret on the command line can be read by every user of this machine; use --{}-file or {}",
                    setting.flag, setting.variable
                );
                report.problems.push(Problem::new(place, &Path::default(), Complaint::new(what)));
                continue;
            }
            overlay.flags.push(Given { setting, place, text: value.clone() });
        }
        overlay
    }

    /// Whether they name an upstream, and so need no file.
    pub fn names_upstream(&self) -> bool {
        self.all().any(|given| given.setting.targets.iter().any(|target| target.keys == ["upstream"]))
    }

    /// Whether they set keys of the token or the route.
    pub fn is_for_a_route(&self) -> bool {
        self.all().any(|given| given.setting.targets.iter().any(|target| target.of != Of::Document))
    }

    /// The file that they name.
    pub fn config(&self) -> Option<(&Place, &str)> {
        let named = |given: &&Given| given.setting.flag == CONFIG.flag;
        self.flags
            .iter()
            .rfind(named)
            .or_else(|| self.variables.iter().find(named))
            .map(|given| (&given.place, given.text.as_str()))
    }

    /// A tree for the case without a file: one route and its token, waiting for their keys.
    pub fn bare_tree() -> Node {
        let mut tree = Node::empty_map(Place::Nowhere);
        tree.set(&["tokens", DEFAULT], Node::empty_map(Place::Nowhere));
        let mut route = Node::empty_map(Place::Nowhere);
        route.set(&["name"], Node::given(Place::Nowhere, DEFAULT));
        route.set(&["token"], Node::given(Place::Nowhere, DEFAULT));
        tree.set(&["routes"], Node { place: Place::Nowhere, value: Value::List(vec![route]) });
        tree
    }

    /// Puts everything into the tree. `file` is the configuration's name, if it has one.
    pub fn apply(&self, tree: &mut Node, file: Option<&str>, report: &mut Report) {
        for layer in [&self.variables, &self.flags] {
            for (index, given) in layer.iter().enumerate() {
                let twin = layer[..index].iter().find(|other| {
                    other.setting.flag != given.setting.flag
                        && other.setting.targets.iter().any(|one| {
                            given.setting.targets.iter().any(|target| one.of == target.of && one.keys == target.keys)
                        })
                });
                if let Some(twin) = twin {
                    let complaint = Complaint::new(format!("says the same as {}", twin.place));
                    report.problems.push(Problem::new(
                        given.place.clone(),
                        &Path::default(),
                        complaint.hint("set one of the two"),
                    ));
                }
            }
            // First what gives way, then what comes: two of one layer that exclude each other must both be seen.
            let places = |target: &Target| (target.of, target.instead_of);
            for (of, gone) in layer.iter().flat_map(|given| given.setting.targets.iter().map(places)) {
                if let (Some(around), Some(gone)) = (find(tree, of), gone) {
                    around.remove(gone);
                }
            }
            for given in layer {
                given.put(tree, file, report);
            }
        }
    }

    fn all(&self) -> impl Iterator<Item = &Given> {
        self.variables.iter().chain(&self.flags)
    }
}

impl Given {
    fn put(&self, tree: &mut Node, file: Option<&str>, report: &mut Report) {
        let mut put = self.setting.targets.is_empty();
        for target in self.setting.targets {
            if let Some(around) = find(tree, target.of) {
                around.set(target.keys, self.node());
                put = true;
            }
        }
        if put {
            return;
        }
        let kind = match self.setting.targets {
            [Target { of: Of::Token, .. }] => "token",
            [Target { of: Of::Route, .. }] => "route",
            _ => "token or route",
        };
        let file = file.unwrap_or("the configuration");
        let what = format!("is for the {kind} named `{DEFAULT}`, which {file} does not have");
        let hint = format!("name one {kind} `{DEFAULT}`, or write the value into the file");
        report.problems.push(Problem::new(self.place.clone(), &Path::default(), Complaint::new(what).hint(hint)));
    }

    fn node(&self) -> Node {
        let node = |text: &str| Node::given(self.place.clone(), text);
        let list = |words: Vec<Node>| Node { place: self.place.clone(), value: Value::List(words) };
        match self.setting.form {
            Form::Text => node(&self.text),
            Form::Words => list(self.text.split_whitespace().map(node).collect()),
            Form::Addresses => {
                let words = self.text.split(|letter: char| letter == ',' || letter.is_whitespace());
                list(words.filter(|word| !word.is_empty()).map(node).collect())
            }
            Form::File => {
                let mut reference = Node::empty_map(self.place.clone());
                reference.set(&["file"], node(&self.text));
                reference
            }
        }
    }
}

fn find(tree: &mut Node, of: Of) -> Option<&mut Node> {
    match of {
        Of::Document => Some(tree),
        Of::Token => tree.get_mut("tokens")?.get_mut(DEFAULT),
        Of::Route => {
            let Value::List(routes) = &mut tree.get_mut("routes")?.value else { return None };
            routes.iter_mut().find(|route| {
                route
                    .get("name")
                    .is_some_and(|name| matches!(&name.value, Value::Scalar(Scalar { text, .. }) if text == DEFAULT))
            })
        }
    }
}

/// A variable that begins as ours do and is none of them.
fn unknown_variable(name: &str) -> Complaint {
    // What they all begin with makes no two of them alike.
    let own = |variable: &'static str| variable.strip_prefix(PREFIX).unwrap_or(variable);
    let meant =
        nearest(name.strip_prefix(PREFIX).unwrap_or(name), SETTINGS.iter().map(|setting| own(setting.variable)));
    let meant = meant.map_or_else(String::new, |word| format!(" (did you mean `{PREFIX}{word}`?)"));
    let complaint = Complaint::new(format!("not a variable of bearerd{meant}, so it has no effect"));
    if meant.is_empty() {
        complaint.hint("unset it; most keys are written in a file alone, and `bearerd run --help` lists the variables")
    } else {
        complaint
    }
}

/// Variables of others: a kubelet sets `…_SERVICE_HOST`, `…_PORT_80_TCP_ADDR` and their like for every service, and one
/// may be called `bearerd`; `BEARERD_URL` is what `bearerd exec` gives to its command.
fn is_foreign(name: &str) -> bool {
    name.contains("SERVICE_") || name.contains("PORT") || name == "BEARERD_URL"
}
