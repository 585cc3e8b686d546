//! Where a device on another machine is found, as people type and paste it: `ID@HOST:PORT`, or `ID` alone where relays
//! find the way. Knows the form; opens nothing.

use std::{fmt, str::FromStr};

use burn::remote::EndpointId;

/// What stands before an address where a device is named.
pub const SCHEME: &str = "remote:";

/// Where a server of a device is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Its public key: only who holds the secret one can answer.
    pub id: EndpointId,
    /// `HOST:PORT`, to be dialed directly; `None`: n0's public relays find it by its id.
    pub host: Option<String>,
}

/// A text that is no address.
#[derive(Debug, thiserror::Error)]
#[error(
    "`{text}` is not a device elsewhere ({why}): expected {SCHEME}ID@HOST:PORT, as `sightline serve` prints it"
)]
pub struct AddressError {
    /// As written.
    pub text: String,
    /// What is wrong.
    pub why: String,
}

impl FromStr for Address {
    type Err = AddressError;

    /// With or without `remote:` before it.
    fn from_str(text: &str) -> Result<Self, AddressError> {
        let wrong = |why: String| AddressError { text: text.to_string(), why };
        let address = text.trim();
        let address = address.strip_prefix(SCHEME).unwrap_or(address);
        let (id, host) = match address.split_once('@') {
            Some((id, host)) => (id, Some(host)),
            None => (address, None),
        };
        let id = id.parse().map_err(|e| wrong(format!("`{id}` is no server's id: {e}")))?;
        if let Some(host) = host {
            let port = host.rsplit_once(':').filter(|(name, _)| !name.is_empty()).map(|(_, port)| port);
            let port = port.ok_or_else(|| wrong(format!("`{host}` is not HOST:PORT")))?;
            if !port.parse::<u16>().is_ok_and(|port| port > 0) {
                return Err(wrong(format!("`{port}` is no port from 1 to 65535")));
            }
        }
        Ok(Address { id, host: host.map(str::to_string) })
    }
}

impl fmt::Display for Address {
    /// Without `remote:`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.id)?;
        self.host.iter().try_for_each(|host| write!(f, "@{host}"))
    }
}

impl Address {
    /// Short, for people who know which id they gave: `HOST:PORT`, or the beginning of the id.
    pub fn short(&self) -> String {
        self.host.clone().unwrap_or_else(|| self.id.to_string().chars().take(10).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "ae58ff8833241ac82d6ff7611046ed67b5072d142c588d0063e942d9a75502b6";

    #[test]
    fn an_address_is_read_as_it_is_written() {
        for host in ["10.0.0.7:7433", "gpu.example.org:1", "[::1]:65535"] {
            let address: Address = format!("{ID}@{host}").parse().unwrap();
            assert_eq!((address.to_string(), address.short()), (format!("{ID}@{host}"), host.to_string()));
            assert_eq!(
                format!(" remote:{address}\n").parse::<Address>().unwrap(),
                address,
                "as it is pasted"
            );
        }
        let address: Address = ID.parse().unwrap();
        assert_eq!((address.host.as_deref(), address.to_string().as_str()), (None, ID));
    }

    #[test]
    fn what_is_no_address_is_told_with_the_form() {
        let texts =
            ["", "gpu:7433", &ID[1..], &format!("{ID}@"), &format!("{ID}@gpu"), &format!("{ID}@:7433")];
        let ports = ["0", "65536", "x"].map(|port| format!("{ID}@gpu:{port}"));
        for text in texts.into_iter().chain(ports.iter().map(String::as_str)) {
            let error = text.parse::<Address>().unwrap_err().to_string();
            assert!(error.contains("remote:ID@HOST:PORT") && error.contains(text), "{error}");
        }
    }
}
