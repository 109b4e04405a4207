# What `cargo mutants` found, by file: `mutants.out/outcomes.json` comes in, lines for `mutants.txt` go out.
def count(f): map(select(f)) | length;
def line(name): "\(name): \(count(.summary == "CaughtMutant" or .summary == "Timeout")) of \(count(.summary != "Unviable")) caught";
[.[].outcomes[] | select(.scenario | type == "object") | {file: .scenario.Mutant.file, summary}]
| (group_by(.file)[] | line(.[0].file)), line("all")
