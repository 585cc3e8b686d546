//! Studies over many images: the figures of the papers, each from the same loop.
//!
//! `kind` is what a study is: a name, what it measures and where it comes from, what it costs, its columns, and two
//! functions, of one image's rows and of the figure that all rows make. One file a study; `kinds` is the list. `settings` is what a person
//! may choose, `subjects` which images there are with what is asked and known of each, `bench` one image on a loaded
//! engine. `course` goes through the images, `record` is the file that it goes on from, `findings` what the rows say,
//! with intervals, and `chart` the drawing of it. `named` are the words of an answer that name objects, which some studies
//! are about. To add a study: write its file, and its line in `kinds`.
//!
//! Knows the engine and plain data; neither the command line nor windows, nor in which formats tables and drawings
//! are written.

pub mod bench;
pub mod chart;
pub mod course;
pub mod error;
pub mod findings;
pub mod kind;
pub mod kinds;
pub mod record;
pub mod settings;
pub mod subjects;

mod ablate;
mod answer;
mod compress;
mod effect;
mod heads;
mod knockout;
mod lens;
mod localise;
mod named;
mod share;
mod windows;
