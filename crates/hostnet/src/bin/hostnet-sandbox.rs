//! The role `sandbox` alone, for this crate's tests; the real binary is `linkspan`.

use std::process::ExitCode;

fn main() -> ExitCode {
    linkspan_hostnet::sandbox_main()
}
