//! Where tensors live: the devices that there are (`open`), the one that the window shares with the model (`shared`,
//! the only file that names both burn and egui), and one on another machine: its `address`, the `secret` that lets
//! one in, the connection (`remote`), and this machine's device for others (`serve`). What a device holds in one piece
//! (`limits`), and how much memory the machine has left (`room`).

pub mod address;
pub mod limits;
pub mod open;
pub mod remote;
pub mod room;
pub mod secret;
pub mod serve;
pub mod shared;
