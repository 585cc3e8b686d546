//! The command line: which job to do, on which files. Everything else is the library's.

use std::process::ExitCode;

use clap::Parser;

#[macro_use]
mod print;
mod cli;

fn main() -> ExitCode {
    env_logger::Builder::from_env(
        env_logger::Env::default().default_filter_or("warn,wgpu_hal=off,sightline=info"),
    )
    .init();
    let args = cli::Args::parse();
    match cli::main(args) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}
