//! `bearerd run` configured in each way, and which way wins.

use rustix::process::Signal;

use super::child::{Child, bearerd};
use super::stage::{Running, Stage, borrowed};

type Variables<'a> = &'a [(&'a str, &'a str)];

/// The main job is done, and the way out is clean.
async fn works(stage: &Stage, running: Running) {
    let answer = running.get("/orders/7?a=b").await;
    assert_eq!((answer.status, answer.json()["path"].as_str()), (200, Some("/orders/7?a=b")), "{answer:?}");
    assert_eq!(stage.api.requests()[0].authorization_lines, 1);
    running.child.end_by(Signal::TERM).await.with(0).silent();
}

#[tokio::test]
async fn by_a_file() {
    let stage = Stage::new().await;
    let running = stage.run(&[]).await;
    works(&stage, running).await;
}

#[tokio::test]
async fn by_a_file_that_a_variable_names() {
    let stage = Stage::new().await;
    let child = Child::spawn(&["run"], &[("BEARERD_CONFIG", &stage.file())]);
    works(&stage, Running::of(child).await).await;
}

#[tokio::test]
async fn by_flags_without_a_command() {
    let stage = Stage::new().await;
    let arguments: Vec<String> = stage
        .variables()
        .into_iter()
        .flat_map(|(name, value)| {
            [format!("--{}", name.trim_start_matches("BEARERD_").to_lowercase().replace('_', "-")), value]
        })
        .collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    works(&stage, Running::of(Child::spawn(&arguments, &[])).await).await;
}

#[tokio::test]
async fn by_the_environment_alone() {
    let stage = Stage::new().await;
    let variables = stage.variables();
    works(&stage, Running::of(Child::spawn(&[], &borrowed(&variables))).await).await;
}

#[tokio::test]
async fn by_the_environment_with_an_issuer_and_the_secret_itself() {
    let stage = Stage::new().await;
    let mut variables = stage.variables();
    variables.retain(|(name, _)| !["BEARERD_TOKEN_URL", "BEARERD_CLIENT_SECRET_FILE"].contains(name));
    variables.push(("BEARERD_ISSUER", stage.provider.issuer().to_owned()));
    variables.push(("BEARERD_CLIENT_SECRET", crate::support::SECRET.to_owned()));
    works(&stage, Running::of(Child::spawn(&["run"], &borrowed(&variables))).await).await;
}

#[tokio::test]
async fn a_flag_beats_a_variable_and_a_variable_beats_the_file() {
    let stage = Stage::new().await;
    let usual = stage.usual().replace("  main:", "  default:").replace("name: api", "name: default");
    let usual = usual.replace("token: main", "token: default").replace("client_id: app", "client_id: of-the-file");
    stage.folder.write("bearerd.yaml", &format!("{usual}log: {{level: error}}\n"));
    let file = stage.file();
    let ways: [(&[&str], Variables<'_>, [&str; 2]); 4] = [
        (&[], &[], ["of-the-file", "error"]),
        (&[], &[("BEARERD_CLIENT_ID", "of-a-variable"), ("BEARERD_LOG_LEVEL", "warn")], ["of-a-variable", "warn"]),
        (&["--client-id", "of-a-flag"], &[("BEARERD_LOG_LEVEL", "warn")], ["of-a-flag", "warn"]),
        (
            &["--client-id", "of-a-flag", "--log-level", "debug"],
            &[("BEARERD_CLIENT_ID", "of-a-variable"), ("BEARERD_LOG_LEVEL", "warn")],
            ["of-a-flag", "debug"],
        ),
    ];
    for (flags, variables, [client, level]) in ways {
        let mut arguments = vec!["check", "--config", &file];
        arguments.extend(flags);
        let checked = bearerd(&arguments, variables).await.with(0);
        for line in [format!("client_id: {client}\n"), format!("level: {level}\n")] {
            assert!(checked.out.contains(&line), "{line}: {}", checked.out);
        }
    }
    // And of the two ways to name the file, the flag.
    let checked = bearerd(&["check", "--config", &file], &[("BEARERD_CONFIG", "/nowhere.yaml")]).await.with(0);
    assert!(checked.out.starts_with(&format!("# {file}: fine\n")), "{}", checked.out);
}
