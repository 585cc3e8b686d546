//! The drawing of a study's panels: curves with their intervals, bars where places are names, or grids of cells.
//!
//! Lengths are points. Plain data in, plain data out ([`Figure`]): the window paints it and exports write it. Knows
//! neither studies nor files.

use crate::{studies::survey::findings::Panel, trace::figure::Figure};

/// The panels of a study under each other; `title` says which study and which model.
pub fn figure(title: &str, panels: &[Panel]) -> Figure {
    let _ = panels;
    Figure::new([640.0, 400.0], title)
}
