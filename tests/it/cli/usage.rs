//! What a newcomer types first, and what happens when it is mistyped.

use super::child::bearerd;

const COMMANDS: [&str; 9] = ["run", "exec", "demo", "check", "doctor", "token", "health", "init", "schema"];

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
    let cases: [(&[&str], &str); 7] = [
        (&["chek"], "'check'"),
        (&["--lisen", "x"], "'--listen'"),
        (&["run", "--lisen", "x"], "'--listen'"),
        (&["demo", "--onse"], "'--once'"),
        (&["run", "--listen"], "a value is required"),
        (&["check", "bearerd.yaml"], "'--config bearerd.yaml'"),
        (&["run", "conf/app.yml"], "'--config conf/app.yml'"),
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
