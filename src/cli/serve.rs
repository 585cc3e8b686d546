//! `sightline serve`: this machine's device for models of another machine.

use std::{error::Error, process::ExitCode};

use clap::ValueEnum;
use sightline::device::{
    address::SCHEME,
    open::{self, DeviceChoice},
    secret::{self, TOKEN},
    serve::Server,
};

use crate::cli::model::device;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to serve: auto takes a real GPU if there is one, cpu and gpu insist.
    #[arg(long, value_name = "DEVICE", value_parser = device(), default_value = "auto")]
    device: DeviceChoice,
    /// UDP port on which others connect; 0 takes any that is free.
    #[arg(long, value_name = "N", default_value_t = 7433)]
    port: u16,
    /// Whether it can also be reached through n0's public relays, by its id alone. They pass encrypted data on, and
    /// know that this server exists.
    #[arg(long, value_enum, default_value = "none")]
    relay: Relay,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Relay {
    /// Direct connections only.
    None,
    /// n0's.
    Public,
}

pub fn run(args: Args) -> Result<ExitCode, Box<dyn Error>> {
    if matches!(args.device, DeviceChoice::Remote(_)) {
        return Err("a device elsewhere cannot be served from here: run `sightline serve` where it is".into());
    }
    let compute = open::open(args.device)?;
    let server = Server::new(&compute, &secret::folder()?, args.port, args.relay == Relay::Public)?;
    println!("serving {}; on the other machine, or this one, give one of", compute.description);
    for address in &server.addresses {
        println!("  --device {SCHEME}{address}");
    }
    match &server.token_file {
        Some(file) => println!("with {TOKEN} set there to the text of {}", file.display()),
        None => println!("with {TOKEN} set there as it is here"),
    }
    println!("until Ctrl+C");
    server.run()?;
    Ok(ExitCode::SUCCESS)
}
