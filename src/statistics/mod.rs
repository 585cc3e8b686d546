//! Chance and counting: seeded draws, intervals, spreads, ranks, and numbers that are none. Plain numbers; knows
//! nothing of models.

pub(crate) mod dice;
pub(crate) mod finite;
pub(crate) mod interval;
pub(crate) mod rank;
pub(crate) mod spread;
