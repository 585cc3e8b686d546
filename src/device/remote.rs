//! A device on another machine: connecting, and whether the connection still stands.
//!
//! The wire is burn's own: operations go over one by one, and only what is read comes back. burn keeps one session for
//! each server, credential and device number of a process, and never opens one anew that broke (burn-remote 0.22,
//! `RemoteService::try_connect`): so every connection presents the token with a number of its own after it, and a
//! broken one is left behind. Knows no model; tensors on such a device are as good as lost once it broke.

use std::{
    io,
    net::ToSocketAddrs as _,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{RecvTimeoutError, channel},
    },
    thread,
    time::{Duration, Instant},
};

use burn::{
    remote::{ConnectError, IrohHost, IrohRelays, RemoteHost},
    tensor::Device,
};

use crate::{
    device::{
        address::Address,
        secret::{self, SecretError},
    },
    progress::{Cancel, Cancelled},
};

/// How long a server has to answer.
const LIMIT: Duration = Duration::from_secs(10);

/// How often, meanwhile, somebody may say stop.
const PIECE: Duration = Duration::from_millis(50);

/// Why a device elsewhere cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// The token.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// Told to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
    /// The host's name leads nowhere.
    #[error("{host}: no such host ({source})")]
    Host {
        /// As written.
        host: String,
        /// The system's word.
        source: io::Error,
    },
    /// Nobody there.
    #[error(
        "{}: nothing answered in {} s: is `sightline serve` running there, and does its UDP port let you in?",
        address.short(),
        LIMIT.as_secs()
    )]
    Silent {
        /// Where.
        address: Address,
    },
    /// Another token.
    #[error(
        "{}: the server refused the token: give {} the text of the file `token` that `sightline serve` names there",
        address.short(),
        secret::TOKEN
    )]
    Refused {
        /// Where.
        address: Address,
    },
    /// Anything else that burn says.
    #[error("{}: {why}; is `sightline serve` of the same version running there, under this id?", address.short())]
    Connect {
        /// Where.
        address: Address,
        /// burn's word.
        why: String,
    },
    /// It was connected, and is no more.
    #[error(
        "the connection to {} broke ({why}): `sightline serve` ended there, the network failed, or it could not do what it was asked, which it prints; the model must be loaded again: reconnect",
        address.short()
    )]
    Broken {
        /// Where.
        address: Address,
        /// burn's word.
        why: String,
    },
}

/// Every device that was connected, with where it is.
static CONNECTED: Mutex<Vec<(Device, Address)>> = Mutex::new(Vec::new());

/// Number of the next connection.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// Connects, anew even where a connection stands.
///
/// # Errors
/// [`RemoteError`], within about 10 s.
#[expect(clippy::result_large_err, reason = "what could not be sent is dropped at once")]
pub fn connect(address: &Address, cancel: &Cancel) -> Result<Device, RemoteError> {
    let token = secret::token()?;
    let (outbox, answer) = channel();
    let to = address.clone();
    // burn's own tries go on for longer, and nothing stops them.
    thread::spawn(move || outbox.send(dial(&to, &token)));
    let end = Instant::now() + LIMIT;
    loop {
        cancel.check()?;
        match answer.recv_timeout(PIECE) {
            Ok(device) => {
                let device = device?;
                let mut all = CONNECTED.lock().unwrap_or_else(PoisonError::into_inner);
                all.push((device.clone(), address.clone()));
                return Ok(device);
            }
            Err(RecvTimeoutError::Timeout) if Instant::now() < end => {}
            Err(_) => return Err(RemoteError::Silent { address: address.clone() }),
        }
    }
}

fn dial(address: &Address, token: &str) -> Result<Device, RemoteError> {
    let mut host = IrohHost::new(address.id);
    if let Some(name) = &address.host {
        host = host.with_relays(IrohRelays::Disabled);
        let failed = |source| RemoteError::Host { host: name.clone(), source };
        for socket in name.to_socket_addrs().map_err(failed)? {
            host = host.with_address(socket);
        }
    }
    let host = RemoteHost::iroh(host).with_credential(credential(token));
    let address = address.clone();
    Device::remote_options(&host).init().map_err(|error| match error {
        ConnectError::Unauthorized => RemoteError::Refused { address },
        other => RemoteError::Connect { address, why: other.to_string() },
    })
}

/// The token, with a number that no other connection of this process has.
fn credential(token: &str) -> String {
    format!("{token}#{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// The token of a credential.
pub(super) fn token_of(credential: &[u8]) -> &[u8] {
    let end = credential.iter().rposition(|&byte| byte == b'#');
    &credential[..end.unwrap_or(credential.len())]
}

/// Where a device is, if it is elsewhere.
pub fn address_of(device: &Device) -> Option<Address> {
    let all = CONNECTED.lock().unwrap_or_else(PoisonError::into_inner);
    all.iter().find(|(known, _)| known == device).map(|(_, address)| address.clone())
}

/// Whether the connection to a device elsewhere still stands: asks, and waits until everything is done there. Of any
/// other device nothing is asked.
///
/// # Errors
/// [`RemoteError::Broken`].
pub fn check(device: &Device) -> Result<(), RemoteError> {
    let Some(address) = address_of(device) else { return Ok(()) };
    device.sync().map_err(|error| {
        // The reason is on the last line.
        let why = error.to_string().lines().last().unwrap_or_default().trim().to_string();
        RemoteError::Broken { address, why }
    })
}

/// Waits until what was given up is free elsewhere, too: a program that ends says no word to a server, which would
/// hold its model until it notices.
pub fn settle() {
    let all = CONNECTED.lock().unwrap_or_else(PoisonError::into_inner).clone();
    for (device, address) in all {
        if let Err(why) = device.sync() {
            log::debug!("{address}: nothing can be freed there any more ({why})");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_of_a_credential_is_whole_and_its_number_is_new() {
        for token in ["secret", "a#b", "a#"] {
            let [one, other] = [credential(token), credential(token)];
            assert_ne!(one, other);
            assert_eq!(token_of(one.as_bytes()), token.as_bytes());
        }
        assert_eq!(token_of(b"secret"), b"secret");
    }
}
