//! devourd, built with the tests: they start it as a user starts the daemon.

fn main() -> std::process::ExitCode {
    devourd::main()
}
