//! What a view gives away: drawings, tables, maps, tensors and JSON, and which files each of them may become.
//!
//! Knows kinds and names; how a file is written is not here.

use crate::{
    files::name,
    trace::{figure::Figure, sheet::MapSheet, table::Table, tensors::NamedTensor},
};

/// Something to be given away.
#[derive(Clone, Debug)]
pub enum Offer {
    /// A drawing.
    Figure(Figure),
    /// A table.
    Table(Table),
    /// A map over an image.
    Map(Box<MapSheet>),
    /// Tensors.
    Tensors {
        /// What they are together.
        name: String,
        /// In any order.
        tensors: Vec<NamedTensor>,
    },
    /// JSON as it is written.
    Json {
        /// What it is.
        name: String,
        /// The text.
        text: String,
    },
}

/// A kind of file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// Pixels.
    Png,
    /// Lines and texts.
    Svg,
    /// A table as text.
    Csv,
    /// Tensors for NumPy.
    Npz,
    /// Tensors for all others.
    Safetensors,
    /// JSON.
    Json,
}

impl Offer {
    /// The kinds of file that it may become, the commonest first.
    pub fn formats(&self) -> &'static [Format] {
        match self {
            Offer::Figure(_) => &[Format::Svg, Format::Png],
            Offer::Table(_) => &[Format::Csv],
            Offer::Map(_) => &[Format::Png],
            Offer::Tensors { .. } => &[Format::Npz, Format::Safetensors],
            Offer::Json { .. } => &[Format::Json],
        }
    }

    /// What it is, to show.
    pub fn title(&self) -> &str {
        match self {
            Offer::Figure(figure) => &figure.title,
            Offer::Table(table) => &table.name,
            Offer::Map(map) => map.caption.first().map_or("map", |line| line.as_str()),
            Offer::Tensors { name, .. } | Offer::Json { name, .. } => name,
        }
    }

    /// A name for its file.
    pub fn file_name(&self, format: Format) -> String {
        // One dash between words, none at the ends: a name that begins with one is an option to some programs.
        let words = self.title().split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
        let title = name::part(&words.collect::<Vec<_>>().join("-"));
        format!("{}.{}", if title.is_empty() { "sightline" } else { &title }, format.extension())
    }
}

impl Format {
    /// How its files' names end.
    pub fn extension(self) -> &'static str {
        match self {
            Format::Png => "png",
            Format::Svg => "svg",
            Format::Csv => "csv",
            Format::Npz => "npz",
            Format::Safetensors => "safetensors",
            Format::Json => "json",
        }
    }

    /// Its name, to show.
    pub fn name(self) -> &'static str {
        match self {
            Format::Png => "PNG",
            Format::Svg => "SVG",
            Format::Csv => "CSV",
            Format::Npz => "NPZ",
            Format::Safetensors => "safetensors",
            Format::Json => "JSON",
        }
    }

    /// What is in it, in words.
    pub fn tooltip(self) -> &'static str {
        match self {
            Format::Png => "The picture, with its colour bar; what it was drawn from is inside the file",
            Format::Svg => "The chart as lines and areas, for print",
            Format::Csv => "The numbers as a table",
            Format::Npz => "The tensors for NumPy, float32",
            Format::Safetensors => "The tensors, float32",
            Format::Json => "Settings and results, with what was left out, once all is done",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offer_has_a_name_that_leads_nowhere() {
        let name = |title: &str| Offer::Table(Table::new(title, [])).file_name(Format::Csv);
        assert_eq!(name("heads of ../duck"), "heads-of-duck.csv");
        assert_eq!(name(""), "sightline.csv");
        let tensors = Offer::Tensors { name: "row 3".into(), tensors: Vec::new() };
        let names: Vec<String> = tensors.formats().iter().map(|f| tensors.file_name(*f)).collect();
        assert_eq!(names, ["row-3.npz", "row-3.safetensors"]);
    }
}
