//! Chance and counting: seeded draws, intervals, spreads, ranks. Plain numbers; knows nothing of models.

pub(crate) mod dice;
pub(crate) mod interval;
pub(crate) mod rank;
pub(crate) mod spread;
