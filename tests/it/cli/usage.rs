//! What a newcomer types first, and what happens when it is mistyped.

use super::child::bearerd;

const COMMANDS: [&str; 11] =
    ["run", "exec", "demo", "check", "doctor", "token", "health", "init", "schema", "completions", "man"];

#[tokio::test]
async fn every_command_explains_itself_with_an_example() {
    for command in COMMANDS {
        let help = bearerd(&[command, "--help"], &[]).await.with(0);
        assert!(help.out.contains(&format!("Usage: bearerd {command}")), "{}", help.out);
        assert!(help.out.contains("Example:\n  bearerd "), "{}", help.out);
        assert_eq!(help.err, "");
    }
    let help = bearerd(&["--help"], &[]).await.with(0);
    for command in COMMANDS {
        assert!(help.out.contains(&format!("\n  {command} ")), "{command} in {}", help.out);
    }
}

#[tokio::test]
async fn the_version_is_the_packages() {
    let version = bearerd(&["--version"], &[]).await.with(0);
    assert_eq!(version.out, concat!("bearerd ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[tokio::test]
async fn what_is_mistyped_is_2_and_never_on_standard_output() {
    let cases: [(&[&str], &str); 12] = [
        (&["chek"], "'check'"),
        (&["--lisen", "x"], "'--listen'"),
        (&["run", "--lisen", "x"], "'--listen'"),
        (&["demo", "--onse"], "'--once'"),
        (&["run", "--listen"], "a value is required"),
        (&["check", "bearerd.yaml"], "'--config bearerd.yaml'"),
        (&["run", "conf/app.yml"], "'--config conf/app.yml'"),
        (&["token", "bearerd.yaml"], "'--config bearerd.yaml'"),
        (&["exec", "bearerd.yaml"], "'--config bearerd.yaml'"),
        (&["exec", "--wait", "1s", "curl", "-x"], "the command stands behind '--': 'bearerd exec -- curl'"),
        (&["exec"], "as in 'bearerd exec -- curl URL'"),
        (&["completions", "tcsh"], "[possible values: bash, elvish, fish, powershell, zsh]"),
    ];
    for (arguments, expected) in cases {
        bearerd(arguments, &[]).await.with(2).silent().says(&[expected, "--help"]);
    }
}

#[tokio::test]
async fn providers_are_listed_for_whoever_names_none() {
    bearerd(&["init"], &[]).await.with(2).silent().says(&["verint-identity, verint-coaching, authgear", "--help"]);
    bearerd(&["init", "octa"], &[]).await.with(2).silent().says(&["similar value exists: 'okta'", "google-sa"]);
    let help = bearerd(&["init", "--help"], &[]).await.with(0);
    assert!(help.out.contains("sap-xsuaa"), "{}", help.out);
}

#[tokio::test]
async fn every_shell_gets_its_completions_and_bash_completes() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = bearerd(&["completions", shell], &[]).await.with(0);
        for word in COMMANDS.into_iter().chain(["--token-url", "--claims"]) {
            // PowerShell and Elvish write flags as they are, fish without their dashes.
            assert!(script.out.contains(word.trim_start_matches('-')), "{word} for {shell}");
        }
        assert!(!script.out.contains("client-secret "), "{shell}");
    }
    // What bash itself makes of it, where it is there.
    let script = bearerd(&["completions", "bash"], &[]).await.out;
    for (words, expected) in
        [("bearerd ch", "check"), ("bearerd check --tok", "--token-url"), ("bearerd init okt", "okta")]
    {
        let words: Vec<&str> = words.split(' ').collect();
        let (last, before) = (words[words.len() - 1], words[words.len() - 2]);
        let asked = format!(
            "{script}\nCOMP_WORDS=({}) COMP_CWORD={}\n_bearerd bearerd {last} {before} || exit\necho \"${{COMPREPLY[*]}}\"",
            words.join(" "),
            words.len() - 1,
        );
        let Ok(bash) = std::process::Command::new("bash").args(["--norc", "-c", &asked]).output() else { return };
        let out = String::from_utf8(bash.stdout).unwrap();
        assert!(out.split_whitespace().any(|word| word == expected), "{words:?}: {out} {:?}", bash.stderr);
    }
}

#[tokio::test]
async fn the_manual_page_is_one_and_leaves_nothing_out() {
    let page = bearerd(&["man"], &[]).await.with(0);
    assert_eq!(page.err, "");
    let plain = page.out.replace("\\-", "-").replace("\\fB", "").replace("\\fR", "").replace("\\fI", "");
    for command in COMMANDS {
        assert!(plain.contains(&format!("\n.SS {command}\n")), "{command}");
    }
    for setting in bearerd::config::SETTINGS {
        assert!(plain.contains(setting.variable), "{}", setting.variable);
        assert_eq!(plain.contains(&format!("\n--{} ", setting.flag)), !setting.secret, "{}", setting.flag);
    }
    for text in [
        ".TH BEARERD 1",
        "[--wait TIME] -- CMD...",
        "\nbearerd init PROVIDER\n",
        "\n78\n",
        "/etc/bearerd/config.yaml",
        "SIGHUP",
    ] {
        assert!(plain.contains(text), "{text}");
    }
    // Whoever formats it has nothing to say, where there is somebody.
    let folder = crate::support::Folder::new();
    folder.write("bearerd.1", &page.out);
    let file = folder.path("bearerd.1");
    for formatter in [&["groff", "-ww", "-man", "-Tutf8"][..], &["mandoc", "-Tlint", "-Wwarning"]] {
        let Ok(run) = std::process::Command::new(formatter[0]).args(&formatter[1..]).arg(&file).output() else {
            continue;
        };
        assert!(
            run.status.success() && run.stderr.is_empty(),
            "{formatter:?}: {}",
            String::from_utf8_lossy(&run.stderr)
        );
    }
}

#[tokio::test]
async fn a_secret_as_a_flag_is_refused_with_the_reason() {
    for arguments in [
        &["run", "--client-secret", "x-canary"][..],
        &["--client-secret=x-canary"],
        &["check", "--client-secret=x-canary"],
    ] {
        bearerd(arguments, &[]).await.with(78).silent().says(&[
            "flag --client-secret: a secret on the command line can be read by every user of this machine",
            "use --client-secret-file or BEARERD_CLIENT_SECRET",
        ]);
    }
    assert!(!bearerd(&["run", "--help"], &[]).await.out.contains("--client-secret "));
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_reader_that_has_had_enough_is_no_failure() {
    let mut command = super::child::command(&["schema"], &[]);
    let mut child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert!(child.wait().unwrap().success());
}
