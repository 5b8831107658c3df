//! The roles of this crate as a program of its own, for its tests.

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.split_first() {
        Some((role, rest)) if role == "shim" => linkspan_containers::shim_main(rest),
        Some((role, rest)) if role == "oci" => linkspan_containers::oci_main(rest),
        Some((role, rest)) if role == "init" => linkspan_containers::init_main(rest),
        _ => ExitCode::FAILURE,
    }
}
