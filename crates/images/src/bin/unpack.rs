//! The confined child alone, for tests.

fn main() -> std::process::ExitCode {
    linkspan_images::unpack_main()
}
