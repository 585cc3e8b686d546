//! The command line: which job to do, on which files. Everything else is the library's.

use std::{env, path::Path, process::ExitCode};

use clap::Parser;

#[macro_use]
mod print;
mod cli;

/// What is logged where `RUST_LOG` says nothing. A connection that breaks is one error, which says what to do; what its
/// layers say of every message that they drop then would bury it.
const DEFAULT_LOG: &str =
    "warn,wgpu_hal=off,burn_remote::client=error,noq_proto=error,hf_hub::retry=off,sightline=info";

fn main() -> ExitCode {
    quiet_drivers();
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or(DEFAULT_LOG)).init();
    let args = cli::Args::parse();
    match cli::main(args) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

/// Keeps Mesa's layer for choosing a GPU out of the way where it could only complain: whenever Vulkan lists its
/// adapters it looks for a Wayland display, and where the folder of those is not known, libwayland writes an
/// error on stderr that means nothing here.
#[allow(unsafe_code)]
fn quiet_drivers() {
    let known = env::var_os("XDG_RUNTIME_DIR").is_some_and(|dir| Path::new(&dir).is_absolute());
    if cfg!(target_os = "linux") && !known {
        // SAFETY: this is the program's first step: no other thread is there that could read the environment.
        unsafe { env::set_var("NODEVICE_SELECT", "1") };
    }
}
