//! What can go wrong between a name and a folder.

use std::{io, path::PathBuf};

use crate::{hub::id::HubId, progress::Cancelled};

/// Why a model of the hub cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// There is no model of that name.
    #[error(
        "{id}: {endpoint} has no such model, and there is no such folder: look for its name on the hub (`sightline models` lists some)"
    )]
    Unknown {
        /// The model.
        id: HubId,
        /// Where it was looked for.
        endpoint: String,
    },
    /// The model has no such revision.
    #[error(
        "{id}: the model has no such revision: give a branch, a tag or a commit of 40 digits after the @"
    )]
    Revision {
        /// The model.
        id: HubId,
    },
    /// A file that was listed is not there.
    #[error("{id}: {endpoint} lists `{file}` and does not have it (404): try again later")]
    Gone {
        /// The model.
        id: HubId,
        /// Where it was asked for.
        endpoint: String,
        /// The file.
        file: String,
    },
    /// The server wants to know who asks.
    #[error(
        "{id}: {endpoint} asks who you are (401{message}): there is no such model, or it is private, or your token is not valid; check the name, and set HF_TOKEN to a token of an account that may read it"
    )]
    Unauthorized {
        /// The model.
        id: HubId,
        /// Who asks.
        endpoint: String,
        /// What the server says, after a colon; may be empty.
        message: String,
    },
    /// The model's owners have not let this account in.
    #[error(
        "{id}: {endpoint} refuses (403{message}): accept the model's licence on {endpoint}/{name}, and set HF_TOKEN to a token of that account",
        name = id.repository()
    )]
    Forbidden {
        /// The model.
        id: HubId,
        /// Who refuses.
        endpoint: String,
        /// What the server says, after a colon; may be empty.
        message: String,
    },
    /// The server wants to be left alone for longer than anybody waits.
    #[error("{id}: {endpoint} is asked too often (429), and asks to wait for {seconds} s: try again then")]
    TooOften {
        /// The model.
        id: HubId,
        /// Who asks for it.
        endpoint: String,
        /// For how long.
        seconds: u64,
    },
    /// Something else than what the hub says.
    #[error("{id}: {endpoint} answers {status}{message}")]
    Status {
        /// The model.
        id: HubId,
        /// Who answers.
        endpoint: String,
        /// The HTTP status.
        status: u16,
        /// What the server says, after a colon; may be empty.
        message: String,
    },
    /// An answer that makes no sense.
    #[error("{id}: the answer of {endpoint} cannot be used: {why}")]
    Answer {
        /// The model.
        id: HubId,
        /// Who answered.
        endpoint: String,
        /// What is wrong with it.
        why: String,
    },
    /// Nobody answers, or the connection breaks again and again.
    #[error(
        "{id}: the hub cannot be reached ({endpoint}: {why}): check the network, and HF_ENDPOINT where that is set; what is there already stays, and is gone on with the next time"
    )]
    Unreachable {
        /// The model.
        id: HubId,
        /// Who was asked.
        endpoint: String,
        /// What happened the last time.
        why: String,
    },
    /// The network may not be used.
    #[error(
        "{id}: it is not, or not whole, in the cache {cache}, and {variable} forbids the network: unset that, or fetch it elsewhere",
        cache = cache.display()
    )]
    Offline {
        /// The model.
        id: HubId,
        /// The cache.
        cache: PathBuf,
        /// The variable of the environment that forbids it.
        variable: &'static str,
    },
    /// The hub cannot be spoken to at all.
    #[error("nothing can be asked of the hub: {0}; check HF_ENDPOINT, and that this system has certificates")]
    Setup(String),
    /// A name that leads out of its folder.
    #[error("{id}: the server names a file `{name}`, which {why}: nothing of it is fetched")]
    Name {
        /// The model.
        id: HubId,
        /// The name.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The model's weights are in no format that is read.
    #[error("{id}: it has no safetensors weights{others}: look for a version of it that has")]
    NoWeights {
        /// The model.
        id: HubId,
        /// What it has instead, in brackets; may be empty.
        others: String,
    },
    /// A file is not as long as was said.
    #[error("{file}: {found} bytes came, the hub lists {expected}: try again later")]
    Length {
        /// The file, by its name in the model.
        file: String,
        /// Bytes that were listed.
        expected: u64,
        /// Bytes that came.
        found: u64,
    },
    /// A file is not what was said.
    #[error(
        "{file}: it came damaged twice (SHA-256 {found}, the hub lists {expected}), and was thrown away: try again later"
    )]
    Sum {
        /// The file, by its name in the model.
        file: String,
        /// The sum that was listed.
        expected: String,
        /// That of what came.
        found: String,
    },
    /// The disk is full, or would be.
    #[error(
        "{place}: {needed} bytes are needed and {available} are free: make room, or set HF_HOME to another disk",
        place = place.display()
    )]
    Space {
        /// The cache.
        place: PathBuf,
        /// Bytes still to come.
        needed: u64,
        /// Bytes free.
        available: u64,
    },
    /// Something in the cache leads out of it.
    #[error(
        "{file}: it leads to {target}, out of the model's own folder of the cache: nothing is read from there; take it away and fetch the model again",
        file = file.display(), target = target.display()
    )]
    Outside {
        /// What was to be read.
        file: PathBuf,
        /// Where it leads.
        target: PathBuf,
    },
    /// A list of weight files that cannot be used.
    #[error("{file}: {why}", file = file.display())]
    Index {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A file of the cache that cannot be read or written.
    #[error("{file}: {source}", file = file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// What its small files say shows that it is of no use here; the large ones were not fetched.
    #[error("{id}: {why}; its weights were not fetched")]
    Unfit {
        /// The model.
        id: HubId,
        /// Why.
        why: String,
    },
    /// The work was told to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

impl HubError {
    /// Whether the hub said nothing: what is known without it stands.
    pub fn is_silence(&self) -> bool {
        matches!(
            self,
            HubError::Unreachable { .. }
                | HubError::Offline { .. }
                | HubError::TooOften { .. }
                | HubError::Setup(_)
        )
    }

    /// For whoever reads or writes a file of the cache.
    pub(crate) fn io(file: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let file = file.into();
        move |source| HubError::Io { file, source }
    }
}
