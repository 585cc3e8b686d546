//! This machine's device for others: burn's own server, let in by a token, on a port of its own.
//!
//! Knows devices, secrets and addresses; not what is computed.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, UdpSocket},
    path::{Path, PathBuf},
};

use burn::server::{
    AuthorizationRequest, Credential, EmptyToken, IrohRelays, IrohTransport, PeerAuthorizer, RemoteServer,
    TokenAuthorizer,
};

use crate::device::{
    address::Address,
    open::Compute,
    remote,
    secret::{self, SecretError},
};

/// Why nothing can be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Identity or token.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// An empty token.
    #[error("{0}")]
    Token(#[from] EmptyToken),
    /// The port is not to be had.
    #[error("UDP port {port} cannot be used ({source}): choose another with --port")]
    Port {
        /// Which.
        port: u16,
        /// The system's word.
        source: io::Error,
    },
    /// Anything else that burn says.
    #[error("{0}")]
    Burn(#[from] burn::server::ServeError),
}

/// A device that is ready to be served.
#[derive(Debug)]
pub struct Server {
    /// Where it will be found: from this machine, from the network, and through relays where they are used.
    pub addresses: Vec<Address>,
    /// Where its token is kept; `None` where the environment has it.
    pub token_file: Option<PathBuf>,
    transport: IrohTransport,
    device: burn::tensor::Device,
    guard: Guard,
}

impl Server {
    /// Prepares to serve a device on a UDP port, any free one for 0. `relays`: also through n0's public relays, which
    /// then know this server; else direct connections only.
    ///
    /// # Errors
    /// [`ServeError`].
    pub fn new(compute: &Compute, folder: &Path, port: u16, relays: bool) -> Result<Self, ServeError> {
        let identity = secret::identity(folder)?;
        let token = secret::token_or_new(folder)?;
        let port = free(port).map_err(|source| ServeError::Port { port, source })?;
        let id = identity.id();
        let hosts = [IpAddr::from(Ipv4Addr::LOCALHOST)].into_iter().chain(on_the_network());
        let at = |host: IpAddr| Address { id, host: Some(std::net::SocketAddr::new(host, port).to_string()) };
        let addresses = hosts.map(at).chain(relays.then_some(Address { id, host: None })).collect();
        let chosen = if relays { IrohRelays::Public } else { IrohRelays::Disabled };
        let named = std::env::var_os(secret::TOKEN).is_some();
        Ok(Server {
            addresses,
            token_file: (!named).then(|| secret::token_file(folder)),
            transport: IrohTransport::new(identity).with_relays(chosen).with_port(port),
            device: compute.device.clone(),
            guard: Guard(TokenAuthorizer::new(token)?),
        })
    }

    /// Serves until the process is told to end, and tells everyone who is connected that it ends.
    ///
    /// # Errors
    /// [`ServeError::Burn`].
    pub fn run(self) -> Result<(), ServeError> {
        Ok(RemoteServer::new([self.device]).with_authorizer(self.guard).serve(self.transport)?)
    }
}

/// Lets in whoever has the token.
#[derive(Debug)]
struct Guard(TokenAuthorizer);

impl PeerAuthorizer for Guard {
    fn authorize(&self, request: AuthorizationRequest<'_>) -> Result<(), String> {
        let credential = Credential::from(remote::token_of(request.credential.as_bytes()));
        let AuthorizationRequest { client, device_index, .. } = request;
        self.0.authorize(AuthorizationRequest { client, device_index, credential: &credential })
    }
}

/// A UDP port that is free: the one named, or any for 0.
fn free(port: u16) -> io::Result<u16> {
    Ok(UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port))?.local_addr()?.port())
}

/// This machine's address as its network sees it, if it has one. Nothing is sent: the system only says which way a
/// message to elsewhere would take.
fn on_the_network() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    // An address of documentation, which no machine has.
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    let own = socket.local_addr().ok()?.ip();
    (!own.is_loopback() && !own.is_unspecified()).then_some(own)
}
