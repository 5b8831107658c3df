//! The command line as typed: global options, the verbs, and the help that groups them.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

use crate::verbs;

/// Puts containerized sites on the web, over HTTPS, by name.
#[derive(Debug, Parser)]
#[command(
    name = "linkspan",
    version,
    arg_required_else_help = true,
    subcommand_required = true,
    subcommand_value_name = "VERB"
)]
pub(crate) struct Cli {
    /// The run directory of the daemon that is meant
    #[arg(
        long,
        global = true,
        env = "LINKSPAN_RUN_DIR",
        default_value = "/run/linkspan",
        value_name = "DIR",
        hide_env_values = true
    )]
    pub(crate) run_dir: PathBuf,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// How a listing is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    #[default]
    Table,
    /// For programs
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    Up(verbs::up::Up),
    Down(verbs::down::Down),
    Plan(verbs::plan::Plan),
    Check(verbs::check::Check),
    Schema(verbs::schema::Schema),
    Ps(verbs::ps::Ps),
    Logs(verbs::logs::Logs),
    Exec(verbs::exec::Exec),
    Inspect(verbs::inspect::Inspect),
    Start(verbs::start::Start),
    Stop(verbs::stop::Stop),
    Restart(verbs::restart::Restart),
    Kill(verbs::kill::Kill),
    Rm(verbs::rm::Rm),
    Load(verbs::load::Load),
    Save(verbs::save::Save),
    Images(verbs::images::Images),
    Image(verbs::image::Image),
    Routes(verbs::routes::Routes),
    Ca(verbs::ca::Ca),
    Network(verbs::network::Network),
    Status(verbs::status::Status),
    Doctor(verbs::doctor::Doctor),
    Events(verbs::events::Events),
    Version(verbs::version::Version),
    Completion(verbs::completion::Completion),
    Daemon(verbs::daemon::Daemon),
}

/// The verbs as `--help` groups them; every one is in exactly one group.
const GROUPS: [(&str, &[&str]); 6] = [
    ("Sites", &["up", "down", "plan", "check", "schema"]),
    (
        "Containers",
        &[
            "ps", "logs", "exec", "inspect", "start", "stop", "restart", "kill", "rm",
        ],
    ),
    ("Images", &["load", "save", "images", "image"]),
    ("The web", &["routes", "ca"]),
    ("Networks", &["network"]),
    (
        "The daemon",
        &["daemon", "status", "doctor", "events", "version", "completion"],
    ),
];

impl Cli {
    /// Parses a command line, the program's name first.
    pub(crate) fn read(args: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let mut command = command();
        let matches = command.try_get_matches_from_mut(args)?;
        Self::from_arg_matches(&matches).map_err(|error| error.format(&mut command))
    }
}

/// The whole command line, with grouped help.
pub(crate) fn command() -> clap::Command {
    let command = Cli::command();
    let mut groups = String::new();
    for (title, verbs) in GROUPS {
        groups.push_str(&format!("{title}:\n"));
        for verb in verbs {
            let about = command.find_subcommand(verb).and_then(clap::Command::get_about);
            let about = about.map(ToString::to_string).unwrap_or_default();
            groups.push_str(&format!("  {verb:<12} {about}\n"));
        }
        groups.push('\n');
    }
    command.help_template(format!(
        "{{about}}\n\n{{usage-heading}} {{usage}}\n\n{groups}Options:\n{{options}}\n\n\
         `linkspan help VERB` explains a verb, with an example.\n"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Cli, clap::Error> {
        Cli::read(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn the_command_line_is_well_formed() {
        command().debug_assert();
    }

    #[test]
    fn every_verb_is_in_one_group_of_the_help() {
        let mut grouped: Vec<&str> = GROUPS.iter().flat_map(|(_, verbs)| *verbs).copied().collect();
        grouped.sort_unstable();
        let command = command();
        let mut verbs: Vec<&str> = command.get_subcommands().map(clap::Command::get_name).collect();
        verbs.sort_unstable();
        assert_eq!(grouped, verbs);
    }

    #[test]
    fn every_verb_says_what_it_does_and_shows_an_example() {
        fn check(command: &clap::Command, path: &str) {
            for verb in command.get_subcommands() {
                let path = format!("{path} {}", verb.get_name());
                assert!(verb.get_about().is_some(), "`{path}` says nothing about itself");
                if verb.has_subcommands() {
                    check(verb, &path);
                    continue;
                }
                let help = verb.clone().render_help().to_string();
                let (_, example) = help
                    .split_once("Example")
                    .unwrap_or_else(|| panic!("no example in:\n{help}"));
                assert!(
                    example.contains(&format!("{path} ")) || example.contains(&format!("{path}\n")),
                    "{help}"
                );
            }
        }
        check(&command(), "linkspan");
    }

    #[test]
    fn a_misspelt_verb_is_put_right() {
        let error = read("linkspan stauts").unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("'status'"), "{error}");
        let error = read("linkspan ps --al").unwrap_err();
        assert!(error.to_string().contains("'--all'"), "{error}");
    }

    #[test]
    fn help_is_no_failure_and_names_every_group() {
        let error = read("linkspan --help").unwrap_err();
        assert_eq!(error.exit_code(), 0);
        let help = error.to_string();
        for (title, _) in GROUPS {
            assert!(help.contains(&format!("\n{title}:\n")), "{help}");
        }
        assert!(help.contains("--run-dir <DIR>"), "{help}");
    }

    #[test]
    fn the_run_directory_may_stand_before_or_after_the_verb() {
        assert_eq!(
            read("linkspan --run-dir /a ps").unwrap().run_dir,
            PathBuf::from("/a")
        );
        assert_eq!(
            read("linkspan ps --run-dir /b").unwrap().run_dir,
            PathBuf::from("/b")
        );
    }

    #[test]
    fn what_follows_the_container_belongs_to_the_program() {
        let Verb::Exec(exec) = read("linkspan exec -it -e A=b web ls -l --run-dir /x")
            .unwrap()
            .verb
        else {
            panic!("not exec");
        };
        assert_eq!(exec.command, ["ls", "-l", "--run-dir", "/x"]);
        assert!(exec.terminal && exec.interactive);
    }
}
