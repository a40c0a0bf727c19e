//! The `cutover` program; everything is in the library.

fn main() -> std::process::ExitCode {
    cutover::cli::main()
}
