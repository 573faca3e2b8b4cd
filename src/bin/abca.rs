//! The command line of abca.

fn main() -> std::process::ExitCode {
    abca::init();
    abca::cli::main()
}
