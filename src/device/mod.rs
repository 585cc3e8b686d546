//! Where tensors live: the devices that there are (`open`), and the one that the window shares with the model
//! (`shared`, the only file that names both burn and egui).

pub mod open;
pub mod shared;
