//! Models to choose from, and the one that is being fetched.
//!
//! Knows what the table and the hub say; fetches nothing itself.

use crate::hub::{
    cache::Held,
    download::{Plan, State},
    table::Known,
};

/// A model of the table, on this machine.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// What the table says.
    pub known: Known,
    /// How much of it is in the cache.
    pub held: Held,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Models {
    /// The table; empty before it was asked for.
    pub rows: Vec<Row>,
    /// Bytes of free memory, where that is known.
    pub free: Option<u64>,
    /// The model that is being fetched.
    pub fetch: Option<Fetch>,
}

/// A model on its way.
#[derive(Clone, Debug, PartialEq)]
pub struct Fetch {
    /// As it was asked for.
    pub name: String,
    /// How far it is.
    pub stage: Stage,
}

/// How far a model on its way is.
#[derive(Clone, Debug, PartialEq)]
pub enum Stage {
    /// The hub is asked what it consists of; and what is waited for, if anything.
    Asked(Option<String>),
    /// It is known what it costs: the user has to agree.
    Planned(Plan),
    /// It comes, or rests.
    Comes {
        /// How far each file is.
        state: State,
        /// Whether it rests.
        paused: bool,
    },
}

impl Fetch {
    /// The share that is there, 0 to 1, once it comes.
    pub fn share(&self) -> Option<f32> {
        let Stage::Comes { state, .. } = &self.stage else { return None };
        let (done, size) = state.total();
        Some(done as f32 / size.max(1) as f32)
    }
}
