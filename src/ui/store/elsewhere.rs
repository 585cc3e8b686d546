//! A device on another machine on which models are to run, and how it stands with it. Knows no connection.

use crate::{device::address::Address, worker::protocol::Connection};

/// A device on another machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Elsewhere {
    /// Where it is.
    pub address: Address,
    /// How it stands with it, as far as that was told.
    pub connection: Option<Connection>,
}

impl Elsewhere {
    /// One that was not called yet.
    pub fn at(address: Address) -> Self {
        Elsewhere { address, connection: None }
    }

    /// Whether it answered, and nothing is known against it since.
    pub fn is_up(&self) -> bool {
        self.connection == Some(Connection::Up)
    }

    /// Whether it is being called.
    pub fn is_called(&self) -> bool {
        matches!(self.connection, None | Some(Connection::Calling))
    }

    /// How it stands with it, in words.
    pub fn state(&self) -> &'static str {
        match self.connection {
            None | Some(Connection::Calling) => "connecting",
            Some(Connection::Up) => "connected",
            Some(Connection::Down) => "not connected",
        }
    }
}
