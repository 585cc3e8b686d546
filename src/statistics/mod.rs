//! Chance and counting.

pub mod dice;
