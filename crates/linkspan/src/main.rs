//! `linkspan`: one program, many roles; the first argument picks one.
//!
//! The role is picked before any thread is started: the OCI runtime and the helpers that clone namespaces must be
//! single-threaded, and a thread, once there, does not go away.

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use linkspan_cli::{DaemonArgs, Role};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    match args.get(1).and_then(|role| role.to_str()) {
        // Started by the daemon and its children only; the command line doesn't list them.
        Some("shim") => with_text(&args[2..], linkspan_containers::shim_main),
        Some("oci") => with_text(&args[2..], linkspan_containers::oci_main),
        Some("init") => with_text(&args[2..], linkspan_containers::init_main),
        Some("unpack") => linkspan_images::unpack_main(),
        Some("sandbox") => linkspan_hostnet::sandbox_main(),
        Some("proxy") => proxy(args),
        _ => match linkspan_cli::run(args) {
            Role::Done(code) => code,
            Role::Daemon(args) => daemon(args),
        },
    }
}

/// For roles whose arguments are ours, and text.
fn with_text(args: &[OsString], role: fn(&[String]) -> ExitCode) -> ExitCode {
    let args: Result<Vec<String>, _> = args.iter().cloned().map(OsString::into_string).collect();
    match args {
        Ok(args) => role(&args),
        Err(argument) => refuse(&format!("the argument `{}` is not UTF-8", argument.display())),
    }
}

fn proxy(args: Vec<OsString>) -> ExitCode {
    if let Err(error) = linkspan_telemetry::init("proxy", linkspan_telemetry::Format::Auto) {
        return refuse(&linkspan_telemetry::chain(&error));
    }
    linkspan_proxy::main(args.into_iter().skip(2))
}

fn daemon(args: DaemonArgs) -> ExitCode {
    // The other roles are this same file, whatever name it was started by.
    let binary = match std::env::current_exe() {
        Ok(binary) => binary,
        Err(error) => return refuse(&format!("cannot tell where this program lies: {error}")),
    };
    let DaemonArgs {
        run_dir,
        state_dir,
        config: settings,
        http,
        https,
    } = args;
    linkspan_netd::main(linkspan_netd::Config {
        run_dir,
        state_dir,
        settings,
        http,
        https,
        binary,
    })
}

fn refuse(why: &str) -> ExitCode {
    // Nobody is left to tell when this fails.
    let _ = writeln!(std::io::stderr(), "error: {why}");
    ExitCode::from(2)
}
