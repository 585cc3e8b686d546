//! How the effects of patches go with attention: rank correlations by layer, and for every head.
//!
//! Values are `[layers, heads]`, layers slowest. Knows a study's findings; a click looks at a layer and head.

use std::sync::Arc;

use egui::{Align2, Label, Pos2, Rect, RichText, Sense, TextStyle, Ui, pos2, vec2};

use crate::{
    trace::{finding::Agreement, palette::Colormap},
    ui::{
        frame::Frame,
        store::{command::Command, store::Store, studies::StudyRun},
        theme,
        widgets::{
            color_bar::ColorBar,
            glance::Glance,
            matrix::{Colors, Kept, Matrix},
            number,
        },
    },
    worker::protocol::RunId,
};

/// Room for the names of rows.
const NAMES: f32 = 56.0;
/// Room for the colour bar and its numbers.
const BAR: f32 = 46.0;
/// Height of the row of means.
const MEANS: f32 = 20.0;
/// Room for the numbers of layers.
const AXIS: f32 = 15.0;
/// Narrowest column that has its number written in it.
const WRITTEN: f32 = 34.0;
/// From no agreement to full, either way.
const COLORS: Colors = Colors { colormap: Colormap::Diverging, range: (-1.0, 1.0) };

/// Correlations on show, as the matrix takes them: the means, and all heads.
struct Held {
    /// Study and size of blocks.
    of: (RunId, usize),
    means: Arc<Vec<f32>>,
    heads: Arc<Vec<f32>>,
}

/// See the module.
#[derive(Default)]
pub struct AgreementView {
    held: Option<Held>,
    means: Kept,
    heads: Kept,
    glance: Glance,
}

/// The agreement of the smallest blocks that were all measured, where attention was recorded.
pub fn finest(study: &StudyRun) -> Option<&Agreement> {
    study.found.agreements.iter().rev().find(|agreement| n_heads(agreement) > 0)
}

fn n_heads(agreement: &Agreement) -> usize {
    agreement.heads.len() / agreement.mean.len().max(1)
}

/// The largest correlation, and where it is; NaN is none.
fn best(values: &[f32]) -> Option<(usize, f32)> {
    let numbers = values.iter().copied().enumerate().filter(|(_, value)| !value.is_nan());
    numbers.max_by(|(_, a), (_, b)| a.total_cmp(b))
}

/// What the agreement says, in words.
pub fn told(agreement: &Agreement) -> Option<String> {
    let (at, head_best) = best(&agreement.heads)?;
    let (layer, mean_best) = best(&agreement.mean)?;
    let n_heads = n_heads(agreement).max(1);
    Some(format!(
        "Blocks of {0} × {0}: their effects go most with the attention of layer {1}, head {2} (rank correlation {3}); \
         of the means of heads, with that of layer {layer} ({4}).",
        agreement.side,
        at / n_heads,
        at % n_heads,
        number::signed(head_best),
        number::signed(mean_best),
    ))
}

impl AgreementView {
    /// Draws it, once one size of blocks is complete.
    pub fn show(&mut self, ui: &mut Ui, store: &Store, study: &StudyRun, frame: &mut Frame) {
        let Some(agreement) = finest(study) else {
            let text = match study.found.agreements.is_empty() {
                true => "How effects go with attention is known once all blocks of a size are measured.",
                false => "Not all attention of this run was recorded: effects cannot be held against it.",
            };
            ui.add(Label::new(RichText::new(text).small().weak()).wrap());
            return;
        };
        let Some((at, _)) = best(&agreement.heads) else { return };
        ui.horizontal_wrapped(|ui| {
            if let Some(words) = told(agreement) {
                ui.add(Label::new(RichText::new(words).small()).wrap());
            }
            let look =
                ui.button(RichText::new("Look there").small()).accessible_name("look at the best head");
            if look.on_hover_text("Shows the map of that head").clicked() {
                frame.ask(Command::Layer(at / n_heads(agreement)));
                frame.ask(Command::Head(Some(at % n_heads(agreement))));
            }
        });
        by_size(ui, study);
        self.matrices(ui, store, study, agreement, frame);
    }

    fn matrices(
        &mut self,
        ui: &mut Ui,
        store: &Store,
        study: &StudyRun,
        agreement: &Agreement,
        frame: &mut Frame,
    ) {
        let of = (study.id, agreement.side);
        if self.held.as_ref().is_none_or(|held| held.of != of) {
            let (means, heads) = (Arc::new(agreement.mean.clone()), Arc::new(agreement.heads.clone()));
            self.held = Some(Held { of, means, heads });
        }
        let Some(held) = &self.held else { return };
        let (n_layers, n_heads) = (agreement.mean.len(), n_heads(agreement));
        let width = (ui.available_width() - NAMES - BAR).clamp(40.0, 44.0 * n_layers as f32);
        let height = (n_heads as f32 * 18.0).min(220.0);
        let (place, _) =
            ui.allocate_exact_size(vec2(NAMES + width + BAR, MEANS + 4.0 + height + AXIS), Sense::hover());
        let left = place.left() + NAMES;
        let means = Rect::from_min_size(pos2(left, place.top()), vec2(width, MEANS));
        let heads = Rect::from_min_size(pos2(left, means.bottom() + 4.0), vec2(width, height));
        frame.place("agreement", heads);
        let (layer, head) = store.selection.looked_at();
        let of_mean = |layer: usize, _: usize| tooltip(agreement, layer, None);
        let of_head = |layer: usize, head: usize| tooltip(agreement, layer, Some(head));
        let order: Vec<usize> = (0..n_heads).collect();
        let row = if head.is_none() { Some(0) } else { None };
        let one = order.get(..1).unwrap_or_default();
        let top = matrix("correlations by layer", &held.means, one, (layer, row), &of_mean);
        let top = top.show(ui, ui.make_persistent_id("means of heads"), means, &mut self.means);
        let all = matrix("correlations by layer and head", &held.heads, &order, (layer, head), &of_head);
        let all = all.show(ui, ui.make_persistent_id("heads"), heads, &mut self.heads);
        let at = top.at.map(|(layer, _)| (layer, None));
        let at = at.or(all.at.map(|(layer, head)| (layer, Some(head))));
        let look = top.look.map(|(layer, _)| (layer, None));
        let look = look.or(all.look.map(|(layer, head)| (layer, Some(head))));
        self.glance.follow(ui, store, frame, at, top.walked || all.walked);
        if let Some((layer, head)) = look {
            frame.ask(Command::Layer(layer));
            frame.ask(Command::Head(head));
        }
        if ui.is_rect_visible(place) {
            names(ui, agreement, means, heads);
            let bar =
                Rect::from_min_size(pos2(heads.right() + 8.0, means.top()), vec2(8.0, MEANS + 4.0 + height));
            let Colors { colormap, range } = COLORS;
            let (gamma, opacity) = (1.0, 1.0);
            ColorBar { colormap, range, gamma, opacity, uniform: None, above: false, mark: None }
                .show(ui, bar);
        }
    }
}

/// A matrix of correlations.
fn matrix<'a>(
    name: &'a str,
    values: &'a Arc<Vec<f32>>,
    order: &'a [usize],
    shown: (usize, Option<usize>),
    told: &'a dyn Fn(usize, usize) -> String,
) -> Matrix<'a> {
    let columns = values.len() / order.len().max(1);
    Matrix { name, values, columns, order, colors: COLORS, shown, cut: &[], told }
}

/// The best layer of every size of blocks.
fn by_size(ui: &mut Ui, study: &StudyRun) {
    let sizes = study.found.agreements.iter().filter_map(|agreement| {
        let (layer, value) = best(&agreement.mean)?;
        Some(format!("{0} × {0}: {1} in layer {layer}", agreement.side, number::signed(value)))
    });
    let sizes: Vec<String> = sizes.collect();
    if sizes.len() > 1 {
        let text = format!("means of heads by size of blocks: {}", sizes.join(" · "));
        ui.add(Label::new(RichText::new(text).small().weak()).wrap());
    }
}

fn tooltip(agreement: &Agreement, layer: usize, head: Option<usize>) -> String {
    let value = match head {
        Some(head) => agreement.heads.get(layer * n_heads(agreement) + head),
        None => agreement.mean.get(layer),
    };
    let head = head.map_or("mean of heads".to_string(), |head| format!("head {head}"));
    let value = value.map_or("not known".to_string(), |value| number::signed(*value));
    format!(
        "layer {layer}, {head}: rank correlation {value} of attention and fall, over blocks of {0} × {0}",
        agreement.side
    )
}

/// The names of rows, the numbers of layers, and the correlations of means where there is room.
fn names(ui: &Ui, agreement: &Agreement, means: Rect, heads: Rect) {
    let font = TextStyle::Small.resolve(ui.style());
    let color = ui.visuals().weak_text_color();
    let text = |at: Pos2, align: Align2, text: String| {
        ui.painter().text(at, align, text, font.clone(), color);
    };
    text(pos2(means.left() - 6.0, means.center().y), Align2::RIGHT_CENTER, "mean".to_string());
    let (n_layers, n_heads) = (agreement.mean.len(), n_heads(agreement));
    let (width, height) = (heads.width() / n_layers.max(1) as f32, heads.height() / n_heads.max(1) as f32);
    for head in (0..n_heads).step_by(step(height, 13.0)) {
        let y = heads.top() + (head as f32 + 0.5) * height;
        text(pos2(heads.left() - 6.0, y), Align2::RIGHT_CENTER, format!("head {head}"));
    }
    for layer in (0..n_layers).step_by(step(width, 22.0)) {
        let x = heads.left() + (layer as f32 + 0.5) * width;
        text(pos2(x, heads.bottom() + 2.0), Align2::CENTER_TOP, layer.to_string());
    }
    if width >= WRITTEN {
        for (layer, value) in agreement.mean.iter().enumerate() {
            let at = pos2(means.left() + (layer as f32 + 0.5) * width, means.center().y);
            // The ends of the colours are dark in both themes, their middle is light.
            let ink = if value.abs() > 0.5 { theme::ON_DARK } else { theme::AROUND };
            ui.painter().text(at, Align2::CENTER_CENTER, format!("{value:+.2}"), font.clone(), ink);
        }
    }
}

/// Every how many cells of this size there is room for a number.
fn step(cell: f32, room: f32) -> usize {
    [1, 2, 5, 10, 20, 50].into_iter().find(|step| *step as f32 * cell >= room).unwrap_or(100)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agreement() -> Agreement {
        Agreement { side: 2, heads: vec![0.1, -0.2, 0.3, 0.85, 0.0, 0.0], mean: vec![0.05, 0.62, 0.0] }
    }

    #[test]
    fn the_best_head_and_layer_are_named() {
        let words = told(&agreement()).unwrap();
        for part in ["Blocks of 2 × 2", "layer 1, head 1 (rank correlation +0.85)", "that of layer 1 (+0.62)"]
        {
            assert!(words.contains(part), "{words}");
        }
        assert!(told(&Agreement { side: 1, heads: vec![], mean: vec![] }).is_none());
        assert_eq!(best(&[f32::NAN, -0.5]), Some((1, -0.5)));
    }

    #[test]
    fn every_cell_has_its_number() {
        assert!(tooltip(&agreement(), 1, Some(1)).starts_with("layer 1, head 1: rank correlation +0.85"));
        assert!(tooltip(&agreement(), 1, None).starts_with("layer 1, mean of heads: rank correlation +0.62"));
        assert!(tooltip(&agreement(), 9, None).contains("not known"));
        assert_eq!((step(30.0, 22.0), step(3.0, 22.0), step(0.01, 22.0)), (1, 10, 100));
    }
}
