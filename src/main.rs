//! Arguments in, exit code out.

fn main() -> std::process::ExitCode {
    previewgate::cli::main(std::env::args_os())
}
