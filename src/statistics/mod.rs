//! Chance and counting: seeded draws, intervals, spreads, ranks. Plain numbers; knows nothing of models.

pub(crate) mod dice;
pub(crate) mod interval;
pub(crate) mod rank;
pub(crate) mod spread;

pub use interval::{Figure, Rate};
pub use rank::shuffled;
pub use spread::Spread;
