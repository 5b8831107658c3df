//! `linkspan init`: the small init for OCI runtimes other than ours.

use std::process::ExitCode;

use crate::program;

/// Role `linkspan init [--] PROGRAM ARGS…`: call with the arguments after `init`, before any thread is started.
pub fn init_main(args: &[String]) -> ExitCode {
    let args = if args.first().is_some_and(|first| first == "--") {
        &args[1..]
    } else {
        args
    };
    let terminal = nix::unistd::isatty(std::io::stdin()).unwrap_or(false);
    let status = program::run_as_init(args, terminal);
    ExitCode::from(u8::try_from(status & 0xff).unwrap_or(1))
}
