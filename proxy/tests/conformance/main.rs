//! What the standards of HTTP demand of a proxy, rule by rule, sent byte by byte over raw sockets.
//!
//! Each row of [`rows`] is a test, named for its section. With `--table` all rows are put to Linkspan and to the peers
//! that `--peer NAME=PROGRAM` names, and printed as a table (`cargo xtask conformance` does so): a cell says `ok`, or what
//! was answered instead.

#![allow(
    clippy::unwrap_used,
    reason = "nothing here is a program; clippy exempts only the test functions themselves"
)]

mod frames;
mod origin;
mod peers;
#[path = "../serving/rig.rs"]
#[allow(
    dead_code,
    reason = "its clients and upstreams are for the tests that it is shared with"
)]
mod rig;
mod rows;
mod subject;
mod wire;

use std::collections::HashSet;
use std::process::ExitCode;

use rows::Row;
use subject::Subject;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.iter().any(|arg| arg == "--table") {
        return table(&args);
    }
    // What `cargo nextest` and `cargo test` ask of a test binary without the usual harness.
    let all: Vec<Row> = rows::all().into_iter().flat_map(|(_, rows)| rows).collect();
    let mut names = HashSet::new();
    for row in &all {
        assert!(names.insert(row.name()), "two rows are called `{}`", row.name());
    }
    if args.iter().any(|arg| arg == "--list") {
        if !args.iter().any(|arg| arg == "--ignored") {
            names.iter().for_each(|name| println!("{name}: test"));
        }
        return ExitCode::SUCCESS;
    }
    let exact = args.iter().any(|arg| arg == "--exact");
    let wanted: Vec<&String> = args.iter().filter(|arg| !arg.starts_with('-')).collect();
    let is_wanted = |row: &Row| {
        let name = row.name();
        let fits = |arg: &&String| {
            if exact {
                name == **arg
            } else {
                name.contains(arg.as_str())
            }
        };
        wanted.is_empty() || wanted.iter().any(fits)
    };
    let rows: Vec<Row> = all.into_iter().filter(is_wanted).collect();
    if rows.is_empty() {
        return ExitCode::SUCCESS;
    }
    let linkspan = Subject::linkspan();
    let mut wrong = 0;
    for row in rows {
        let told = row.probe(&linkspan);
        if row.is_right(&told) {
            println!("test {} ... ok", row.name());
        } else {
            wrong += 1;
            println!("test {} ... FAILED\n{}", row.name(), shown(&row, &told));
        }
    }
    ExitCode::from(u8::from(wrong > 0))
}

fn shown(row: &Row, told: &str) -> String {
    format!(
        "  {}, {}: `{told}`, where `{}` is right",
        row.rule,
        row.probe,
        row.right.join("` or `")
    )
}

/// Widths of the first three columns.
const COLUMNS: (usize, usize, usize) = (18, 46, 20);

fn table(args: &[String]) -> ExitCode {
    let mut subjects = vec![Subject::linkspan()];
    for pair in args
        .iter()
        .zip(args.iter().skip(1))
        .filter(|(flag, _)| *flag == "--peer")
    {
        let (name, program) = pair.1.split_once('=').unwrap_or((pair.1, pair.1));
        match Subject::peer(name, program) {
            Ok(peer) => subjects.push(peer),
            Err(why) => println!("{name} is left out: {why}"),
        }
    }
    let (mut wrong, mut rights) = (Vec::new(), vec![0; subjects.len()]);
    let mut count = 0;
    for (title, rows) in rows::all() {
        let names: Vec<&str> = subjects.iter().map(|subject| subject.name.as_str()).collect();
        println!(
            "\n{title}\n{}",
            line("", "", "right", names.iter().map(|name| (*name).to_owned()))
        );
        for row in rows {
            count += 1;
            let mut cells = Vec::new();
            for (subject, rights) in subjects.iter().zip(&mut rights) {
                let told = row.probe(subject);
                if row.is_right(&told) {
                    *rights += 1;
                    cells.push("ok".to_owned());
                } else {
                    if subject.name == "linkspan" {
                        wrong.push(shown(&row, &told));
                    }
                    cells.push(told);
                }
            }
            println!("{}", line(row.rule, row.probe, row.right[0], cells.into_iter()));
        }
    }
    println!();
    for (subject, rights) in subjects.iter().zip(rights) {
        println!("{:<10} {rights} of {count} right", subject.name);
    }
    for wrong in &wrong {
        println!("{wrong}");
    }
    ExitCode::from(u8::from(!wrong.is_empty()))
}

fn line(rule: &str, probe: &str, right: &str, cells: impl Iterator<Item = String>) -> String {
    let cells: String = cells.map(|cell| format!(" {cell:<22}")).collect();
    let (first, second, third) = COLUMNS;
    format!("{rule:<first$} {probe:<second$} {right:<third$}{cells}")
        .trim_end()
        .to_owned()
}
