//! `linkspan completion`.

use clap::ValueEnum;

use crate::args;
use crate::terminal::print_bytes;

/// Print a completion script for a shell
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  linkspan completion bash > /etc/bash_completion.d/linkspan
  linkspan completion zsh > /usr/local/share/zsh/site-functions/_linkspan
  linkspan completion fish > ~/.config/fish/completions/linkspan.fish")]
pub(crate) struct Completion {
    /// Which shell
    #[arg(value_enum)]
    shell: Shell,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

impl Completion {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        print_bytes(&script(self.shell))
    }
}

fn script(shell: Shell) -> Vec<u8> {
    use clap_complete::{generate, shells};
    let mut script = Vec::new();
    // The grouped help is no matter here, and its template is not meant for scripts.
    let mut command = args::command();
    match shell {
        Shell::Bash => generate(shells::Bash, &mut command, "linkspan", &mut script),
        Shell::Zsh => generate(shells::Zsh, &mut command, "linkspan", &mut script),
        Shell::Fish => generate(shells::Fish, &mut command, "linkspan", &mut script),
    }
    script
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_gets_a_script_that_knows_the_verbs() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = String::from_utf8(script(shell)).unwrap();
            for word in [
                "routes",
                "restart",
                "run-dir",
                "disconnect",
                "on-conflict",
                "macvlan",
                "firewall",
            ] {
                assert!(script.contains(word), "{shell:?} lacks {word}");
            }
        }
    }
}
