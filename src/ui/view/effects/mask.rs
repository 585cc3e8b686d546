//! How much of a fall in log probability lies on the object that a word names.
//!
//! Knows answers, objects and effects by patch; draws nothing.

use crate::{
    trace::words::{Piece, find},
    ui::{store::run::Run, widgets::number},
    worker::protocol::ObjectView,
};

/// Where the fall lies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fall {
    /// Share of all falls that lies on the object's patches.
    pub share: f32,
    /// Share of the measured patches that are the object's.
    pub area: f32,
    /// Whether the largest fall is on the object.
    pub peak_inside: bool,
}

/// The object that these tokens of an answer name; of several the first.
pub fn named<'a>(run: &Run, tokens: &[usize], objects: &'a [ObjectView]) -> Option<&'a ObjectView> {
    let said = run.answer.iter().enumerate().filter(|(_, token)| !token.end);
    let pieces: Vec<Piece<'_>> =
        said.map(|(position, token)| Piece { position, text: &token.text, partial: token.partial }).collect();
    let names = |object: &&ObjectView| {
        let words = find(&pieces, &object.name);
        words.iter().any(|word| word.positions.iter().any(|at| tokens.contains(at)))
    };
    objects.iter().find(names)
}

/// Where effects fall; `None` where nothing was measured, or nothing falls. `values`: the change a patch, by its
/// number; NaN where there is none.
pub fn fall(values: &[f32], object: &ObjectView) -> Option<Fall> {
    let measured: Vec<(usize, f32)> =
        values.iter().copied().enumerate().filter(|(_, value)| !value.is_nan()).collect();
    let inside = |at: usize| object.patches.binary_search(&at).is_ok();
    let sum = |on_object: bool| -> f32 {
        let here = measured.iter().filter(|(at, _)| !on_object || inside(*at));
        here.map(|(_, value)| (-value).max(0.0)).sum()
    };
    let (peak, lowest) = measured.iter().min_by(|(_, a), (_, b)| a.total_cmp(b))?;
    if *lowest >= 0.0 {
        return None;
    }
    let of_object = measured.iter().filter(|(at, _)| inside(*at)).count();
    Some(Fall {
        share: sum(true) / sum(false),
        area: of_object as f32 / measured.len() as f32,
        peak_inside: inside(*peak),
    })
}

/// The same in words.
pub fn told(fall: Fall, object: &ObjectView) -> String {
    format!(
        "{} of the fall lies on the patches of the {} ({} of all patches); the largest fall is {} it",
        number::percent(fall.share),
        object.name,
        number::percent(fall.area),
        if fall.peak_inside { "on" } else { "not on" },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        spec::{experiment::Experiment, picture::ImageSource, span::Span},
        trace::tokens::AnswerToken,
    };

    fn object(name: &str, patches: &[usize]) -> ObjectView {
        ObjectView { name: name.to_string(), patches: patches.to_vec(), outline: Vec::new().into() }
    }

    #[test]
    fn rises_and_what_was_not_measured_have_no_share_in_the_fall() {
        let camera = object("camera", &[1, 2]);
        let values = [-1.0, -3.0, 0.5, f32::NAN];
        let found = fall(&values, &camera).unwrap();
        assert_eq!(found, Fall { share: 0.75, area: 2.0 / 3.0, peak_inside: true });
        assert!(told(found, &camera).starts_with("75.0 % of the fall lies on the patches of the camera"));
        assert!(!fall(&[-2.0, -1.0], &camera).unwrap().peak_inside);
        assert_eq!(fall(&[0.0, 0.25], &camera), None, "nothing falls");
        assert_eq!(fall(&[f32::NAN], &camera), None);
    }

    #[test]
    fn a_word_of_several_tokens_names_its_object() {
        let mut run = Run::new(1, Experiment::ask(ImageSource::File("a.png".into()), "what?", 4), None);
        for (position, text) in [" a", " fire", "truck", " and", " a", " duck"].into_iter().enumerate() {
            run.answer.push(AnswerToken {
                position,
                id: 0,
                text: text.to_string(),
                span: Span::Answer,
                logprob: 0.0,
                top: Vec::new(),
                end: false,
                partial: false,
                entropy: None,
            });
        }
        let objects = [object("duck", &[1]), object("firetruck", &[2])];
        let name = |tokens: &[usize]| named(&run, tokens, &objects).map(|object| object.name.as_str());
        assert_eq!(
            (name(&[2]), name(&[5]), name(&[0, 3]), name(&[])),
            (Some("firetruck"), Some("duck"), None, None)
        );
    }
}
