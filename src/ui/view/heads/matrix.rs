//! The matrix of heads by layers: its cells, the numbers beside them, and what a click there asks for.
//!
//! Shared by the view of heads and that of layers. Knows the store; what the numbers are is not its own.

use egui::{Align2, FontId, Id, Rect, Ui, pos2};

use crate::ui::{
    frame::Frame,
    store::{command::Command, cut_list::Change, store::Store},
    view::heads::values::Numbers,
    widgets::{
        layer_strip::Columns,
        matrix::{Block, Deeds, Kept, Matrix},
    },
};

/// Height that a row's number needs.
const LINE: f32 = 11.0;

/// What is shown.
pub struct Shown<'a> {
    /// What screen readers call it.
    pub name: &'a str,
    /// The numbers.
    pub numbers: &'a Numbers,
    /// Heads, from the first row to the last.
    pub order: &'a [usize],
}

impl Shown<'_> {
    /// Draws the cells into `rect`, and asks for what is done there.
    pub fn cells(&self, ui: &Ui, store: &Store, frame: &mut Frame, rect: Rect, kept: &mut Kept) -> Deeds {
        let Shown { name, numbers, order } = self;
        let cut = cut_blocks(store, numbers.n_layers, numbers.n_heads);
        let matrix = Matrix {
            name,
            values: &numbers.values,
            columns: numbers.n_layers,
            order,
            colors: numbers.colors,
            shown: (store.selection.layer, store.selection.head),
            cut: &cut,
            told: &|layer, head| numbers.told(layer, head),
        };
        let deeds = matrix.show(ui, Id::unique(*name), rect, kept);
        if let Some((layer, head)) = deeds.look {
            frame.ask(Command::Layer(layer));
            frame.ask(Command::Head(Some(head)));
        }
        if let Some((layer, head)) = deeds.cut {
            cut_head(store, frame, layer, head);
        }
        deeds
    }
}

/// The layers and heads that each knockout in force cuts.
fn cut_blocks(store: &Store, n_layers: usize, n_heads: usize) -> Vec<Block> {
    let knockouts = store.cut.items.iter().filter(|item| item.on).filter_map(|item| item.change.knockout());
    let block = knockouts.map(|knockout| Block {
        columns: (0..n_layers).map(|layer| knockout.layers.contains(layer)).collect(),
        rows: (0..n_heads).map(|head| knockout.heads.contains(head)).collect(),
    });
    block.collect()
}

/// Cuts what a head sees of the image; a second time takes that cut off again.
pub fn cut_head(store: &Store, frame: &mut Frame, layer: usize, head: usize) {
    let Ok(change) = Change::parse(&format!("answer -> visual @ {layer} # {head}")) else { return };
    let line = store.cut.items.iter().position(|item| item.on && item.change == change);
    frame.ask(match line {
        Some(line) => Command::RemoveCut(line),
        None => Command::AddCut(change),
    });
}

/// Writes the numbers of rows beside `x`, as many as there is room for; `before`: a word before each.
pub fn row_numbers(ui: &Ui, rows: Columns, order: &[usize], (x, align): (f32, Align2), before: &str) {
    let step = rows.step(LINE);
    let color = ui.visuals().weak_text_color();
    for (place, head) in order.iter().enumerate().step_by(step) {
        let y = rows.edge(place) + rows.width / 2.0;
        let text = format!("{before}{head}");
        ui.painter().text(pos2(x, y), align, text, FontId::proportional(10.5), color);
    }
}
