//! Where tensors live: the devices that there are (`open`), and the one that the window shares with the model
//! (`shared`, the only file that names both burn and egui), what a device holds in one piece (`limits`), and how much
//! memory the machine has left (`room`).

pub mod limits;
pub mod open;
pub mod room;
pub mod shared;
