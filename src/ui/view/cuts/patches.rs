//! Which patches to cut or to ablate: objects that are known, patches that are locked, patches that are painted.
//!
//! Knows objects by their masks; what becomes of a set of patches is a line of the list.

use std::collections::BTreeSet;

use egui::{Grid, Label, RichText, Ui};

use crate::{
    spec::{
        knockout::Knockout,
        sets::{Name, Numbers, Places, Set, Term},
        span::Span,
    },
    ui::{
        frame::Frame,
        store::{
            command::Command,
            cut_list::{Change, PaintRole, patch_term},
            settings::Tool,
            store::Store,
        },
        widgets::listed,
    },
    worker::protocol::ObjectView,
};

/// What can be done to some patches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    /// They are overwritten.
    Ablate,
    /// Answer tokens cannot look at them.
    FromAnswers,
    /// No other position can.
    FromAll,
}

impl Deed {
    const ALL: [Deed; 3] = [Deed::Ablate, Deed::FromAnswers, Deed::FromAll];

    fn name(self) -> &'static str {
        match self {
            Deed::Ablate => "ablate",
            Deed::FromAnswers => "cut as key from answers",
            Deed::FromAll => "cut as key from everything",
        }
    }

    /// What is done to these patches and those within so many rings; `None` where there are none.
    fn change(self, patches: &BTreeSet<usize>, rings: usize) -> Option<Change> {
        match self {
            Deed::Ablate => PaintRole::Ablated.change(patches, rings, Numbers::All),
            Deed::FromAll => PaintRole::Key.change(patches, rings, Numbers::All),
            Deed::FromAnswers if patches.is_empty() => None,
            Deed::FromAnswers => {
                let answer = Name::Span(Span::Answer);
                let query = Set(vec![Term { minus: false, name: answer, places: Places::All, rings: 0 }]);
                let key = Set(vec![Term { rings, ..patch_term(patches, false) }]);
                Some(Change::Knockout(Knockout { query, key, layers: Numbers::All, heads: Numbers::All }))
            }
        }
    }
}

/// The objects of the image as chips, each with what can be done to it.
pub fn objects(ui: &mut Ui, store: &Store, frame: &mut Frame) {
    let Some(image) = store.image() else { return };
    let objects = image.objects.as_deref().unwrap_or_default();
    ui.horizontal_wrapped(|ui| {
        for object in objects {
            chip(ui, store, object, frame);
        }
        listed::button(ui, frame, &Command::PickMask);
    });
    if objects.is_empty() {
        let hint =
            "No object of this image is known: open a mask of one, or lock patches by a click on the image.";
        ui.add(Label::new(RichText::new(hint).small().weak()).wrap());
    }
}

fn chip(ui: &mut Ui, store: &Store, object: &ObjectView, frame: &mut Frame) {
    let patches: BTreeSet<usize> = object.patches.iter().copied().collect();
    let locked = !patches.is_empty() && patches == store.selection.patches;
    let chip = ui.selectable_label(locked, &object.name).accessible_name(format!("object: {}", object.name));
    let chip = chip.on_hover_text(format!("Locks its {} patches", patches.len()));
    frame.place(format!("object {}", object.name), chip.rect);
    if chip.clicked() {
        frame.ask(if locked { Command::Free } else { Command::LockAll(object.patches.clone()) });
    }
    menu(ui, &object.name, &patches, frame);
}

/// The patches that are locked, with the same choice; nothing where there are none.
pub fn locked(ui: &mut Ui, store: &Store, frame: &mut Frame) {
    let patches = &store.selection.patches;
    if patches.is_empty() {
        return;
    }
    ui.horizontal_wrapped(|ui| {
        let text = match patches.len() {
            1 => "1 locked patch".to_string(),
            n => format!("{n} locked patches"),
        };
        ui.label(text);
        menu(ui, "locked patches", patches, frame);
        listed::named(ui, frame, &Command::Free, "Free");
    });
}

/// What can be done to some patches, as they are or grown.
fn menu(ui: &mut Ui, what: &str, patches: &BTreeSet<usize>, frame: &mut Frame) {
    let menu = ui.menu_button("…", |ui| {
        Grid::new(("what to do with", what)).num_columns(4).show(ui, |ui| {
            for deed in Deed::ALL {
                ui.label(deed.name());
                for (rings, text) in ["as it is", "grown by 1", "grown by 2"].into_iter().enumerate() {
                    let Some(change) = deed.change(patches, rings) else { continue };
                    let button = ui.button(text).accessible_name(format!("{} {what}, {text}", deed.name()));
                    if button.on_hover_text(change.to_string()).clicked() {
                        frame.ask(Command::AddCut(change));
                        ui.close();
                    }
                }
                ui.end_row();
            }
        });
    });
    menu.response
        .accessible_name(format!("what to do with {what}"))
        .on_hover_text("Ablate it, or cut it as key");
}

/// What the pointer paints, what the brush makes of patches, and by how many rings they grow.
pub fn paint(ui: &mut Ui, store: &Store, frame: &mut Frame) {
    let cut = &store.cut;
    let small = |text: &str| RichText::new(text).small();
    ui.horizontal_wrapped(|ui| {
        ui.label(small("pointer").weak());
        for tool in Tool::ALL {
            let label = ui.selectable_label(store.tool == tool, small(tool.name()));
            let label = label.accessible_name(format!("pointer: {}", tool.name()));
            if label.on_hover_text("What the pointer does on the image").clicked() {
                frame.ask(Command::Tool(tool));
            }
        }
        ui.add_space(8.0);
        ui.label(small("painted patches").weak());
        for role in PaintRole::ALL {
            let label = ui.selectable_label(cut.role == role, small(role.name()));
            let label = label.accessible_name(format!("paint: {}", role.name()));
            if label.on_hover_text(role.tooltip()).clicked() {
                frame.ask(Command::PaintAs(role, cut.rings));
            }
        }
        ui.add_space(8.0);
        ui.label(small("grown by").weak()).on_hover_text("Rings of neighbours around what is painted");
        for rings in 0..=3 {
            let label = ui.selectable_label(cut.rings == rings, small(&rings.to_string()));
            if label.accessible_name(format!("paint: grown by {rings}")).clicked() {
                frame.ask(Command::PaintAs(cut.role, rings));
            }
        }
    });
    painted(ui, store, frame);
}

fn painted(ui: &mut Ui, store: &Store, frame: &mut Frame) {
    let Some(patches) = store.cut.painted() else {
        let hint = "Paint over the image with the brush: what is painted is cut while you paint.";
        ui.add(Label::new(RichText::new(hint).small().weak()).wrap());
        return;
    };
    ui.horizontal_wrapped(|ui| {
        ui.label(format!("{} painted", patches.len()));
        let wipe = ui.button("Wipe all").on_hover_text("No patch is painted any more");
        if wipe.clicked() {
            frame.ask(Command::Paint { patches: patches.iter().copied().collect(), add: false });
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_deed_is_a_line_that_could_be_typed() {
        let patches = BTreeSet::from([4, 5, 6, 20]);
        let told = Deed::ALL.map(|deed| deed.change(&patches, 1).unwrap().to_string());
        assert_eq!(
            told,
            [
                "visual[4-6,20]~1 = mean",
                "answer -> visual[4-6,20]~1 @ all",
                "all - visual[4-6,20]~1 -> visual[4-6,20]~1 @ all",
            ]
        );
        for deed in Deed::ALL {
            let change = deed.change(&patches, 0).unwrap();
            assert_eq!(Change::parse(&change.to_string()).unwrap(), change);
            assert!(deed.change(&BTreeSet::new(), 0).is_none());
        }
    }
}
