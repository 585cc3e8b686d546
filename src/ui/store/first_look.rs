//! Where to look first: at a word that names an object, in the layer that looks at objects most often.
//!
//! Only where the objects are known. Knows one run and the objects of its image; nothing of what is selected.

use crate::{
    trace::words::{Piece, find},
    ui::store::run::Run,
    worker::protocol::ObjectView,
};

/// A token and a layer to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FirstLook {
    /// Answer token.
    pub token: usize,
    /// Decoder layer.
    pub layer: usize,
}

/// The layer in which the words that name an object have the peak of their head-mean attention most often on it
/// (of equal ones that with more attention there), and the first word for which it is. `None` when no word names
/// an object, or no peak is on any.
pub fn first_look(run: &Run, objects: &[ObjectView]) -> Option<FirstLook> {
    let naming = naming(run, objects);
    let keys = run.visual_keys();
    let n_layers = naming.first().and_then(|(at, _)| run.rows.get(*at)?.as_ref())?.pattern.n_layers;
    let looks = |layer: usize| -> Vec<(usize, f32)> {
        let look = |(at, object): &(usize, &ObjectView)| {
            let row = run.rows.get(*at)?.as_ref()?.pattern.head_mean(layer);
            let value = |patch: usize| keys.get(patch).and_then(|&key| row.get(key)).copied().unwrap_or(0.0);
            let peak = (0..keys.len()).max_by(|&a, &b| value(a).total_cmp(&value(b)))?;
            let there = object.patches.iter().map(|&patch| value(patch)).sum();
            object.patches.contains(&peak).then_some((*at, there))
        };
        naming.iter().filter_map(look).collect()
    };
    let score = |looks: &[(usize, f32)]| (looks.len(), looks.iter().map(|(_, there)| there).sum::<f32>());
    let all = (0..n_layers).map(|layer| (layer, looks(layer)));
    let (layer, looks) = all.max_by(|(_, a), (_, b)| {
        let ((a, a_there), (b, b_there)) = (score(a), score(b));
        a.cmp(&b).then(a_there.total_cmp(&b_there))
    })?;
    let token = looks.iter().map(|(at, _)| *at).min()?;
    Some(FirstLook { token, layer })
}

/// Answer tokens that end a word naming an object, with that object. Of objects of one class a word means the
/// first.
fn naming<'a>(run: &Run, objects: &'a [ObjectView]) -> Vec<(usize, &'a ObjectView)> {
    let said = run.answer.iter().enumerate().filter(|(_, token)| !token.end);
    let pieces: Vec<Piece<'_>> =
        said.map(|(position, token)| Piece { position, text: &token.text, partial: token.partial }).collect();
    let mut naming = Vec::new();
    for (at, object) in objects.iter().enumerate() {
        if objects[..at].iter().all(|other| other.name != object.name) {
            let ends =
                find(&pieces, &object.name).into_iter().filter_map(|word| word.positions.last().copied());
            naming.extend(ends.map(|end| (end, object)));
        }
    }
    naming
}
