//! Qwen's models: three axes of positions, windows, features that are added after layers.

use sightline::engine::{check::Foreseen, inside::resid_post};

use super::{common::models, *};

/// 2 x 4 visual tokens of 200 x 120 pixels, some of them marked.
fn wide(engine: &Engine) -> Seen {
    let mut seen = see(engine, &fixture("processing/images/gradient_200x120.png"));
    let mask = GrayImage::from_fn(200, 120, |x, y| Luma([u8::from((60..130).contains(&x) && y < 50)]));
    seen.mark(&mask.into(), &ObjectMask { file: "mask".into(), value: None, share: 0.3 }).unwrap();
    assert_eq!(seen.embeds.dims(), [8, 64]);
    seen
}

#[test]
fn resuming_gives_what_running_from_scratch_gives_for_qwen() {
    let donors = vec![format!("image:{}", fixture("processing/images/scene_640x427.png").display())];
    for dir in [models::qwen2_like(), models::qwen2_5_like(), models::qwen3_like()] {
        let engine = load(dir.path());
        trials::Trials::new(&engine, &wide(&engine), (2, 4), donors.clone()).run(25);
    }
}

#[test]
fn a_donor_of_as_many_tokens_in_another_grid_is_refused() {
    let dir = models::qwen2_5_like();
    let engine = load(dir.path());
    let (seen, folder) = (wide(&engine), tempfile::tempdir().unwrap());
    let tall = folder.path().join("tall.png");
    image::RgbImage::from_pixel(120, 200, image::Rgb([90, 120, 30])).save(&tall).unwrap();
    assert_eq!(see(&engine, &tall).embeds.dims(), seen.embeds.dims());
    let change = intervention(&[], &[&format!("visual[0] = image:{}", tall.display())]);
    let spec = ask(SHORT, 3);
    let baseline = keep(&engine, &seen, &spec).unwrap();
    let resumed = refused(intervene(&engine, &seen, &baseline, &change));
    assert!(resumed.contains("becomes 4x2 visual tokens, this prompt has 2x4"), "{resumed}");
    // Encoded by now; the second time is refused like the first, and so it is before the weights are read.
    assert_eq!(refused(run(&engine, &seen, &with(&spec, &change))), resumed);
    let file = fixture("processing/images/gradient_200x120.png");
    let framed = engine.folder.frame(&Picture { image: ImageSource::File(file), object: None }).unwrap();
    let foreseen = |change: &Intervention| {
        let experiment = with(&spec, change);
        Foreseen::new(&engine.folder, WeightDtype::F32, &experiment, &[&framed]).map(|_| ())
    };
    assert_eq!(foreseen(&change).unwrap_err().to_string(), resumed);
    let alike = fixture("processing/images/scene_640x427.png");
    foreseen(&intervention(&[], &[&format!("visual[0] = image:{}", alike.display())])).unwrap();
}

/// Largest distance between two lists.
fn far(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn an_output_is_before_what_is_added_to_it_and_the_next_input_after() {
    let dir = models::qwen3_like();
    let engine = load(dir.path());
    assert_eq!((engine.info.deepstack, engine.folder.family.added()), (3, 3));
    let (seen, cancel) = (wide(&engine), Cancel::default());
    let cut = intervention(&["question -> visual @ 1"], &["visual[3] & deepstack = zero"]);
    for (change, gone) in [(Intervention::default(), None), (cut, Some(3))] {
        let baseline = keep(&engine, &seen, &every(with(&ask(SHORT, 3), &change), 2)).unwrap();
        let visual = visual(&baseline.trace);
        for layer in 0..4 {
            let [before, after] = [
                resid_post(&engine, &baseline, layer, &cancel).unwrap(),
                resid_pre(&engine, &baseline, layer + 1, &cancel).unwrap(),
            ];
            let added = rows(&(after - before));
            let expected = seen.added.iter().find(|(after, _)| *after == layer).map(|(_, t)| rows(t));
            assert_eq!(expected.is_some(), layer < 3);
            for (position, row) in added.iter().enumerate() {
                let place = visual.iter().position(|&p| p == position).filter(|&place| Some(place) != gone);
                let zeros = vec![0.0; row.len()];
                let wanted = expected.as_ref().zip(place).map_or(&zeros, |(all, place)| &all[place]);
                assert!(far(row, wanted) < 1e-4, "layer {layer}, position {position}");
            }
        }
    }
}

#[test]
fn an_ablation_leaves_deepstack_features_unless_they_are_taken_along() {
    let dir = models::qwen3_like();
    let (engine, spec) = (load(dir.path()), ask(SHORT, 3));
    let seen = wide(&engine);
    let nothing = |t: &Tensor<2>| Tensor::zeros(t.dims(), &engine.vlm.device);
    let bare = Seen { embeds: nothing(&seen.embeds), ..seen.clone() };
    let added = seen.added.iter().map(|(layer, t)| (*layer, nothing(t))).collect();
    let empty = Seen { added, ..bare.clone() };
    let first = |seen: &Seen, change: &Intervention| {
        keep(&engine, seen, &with(&spec, change)).unwrap().logits[0].clone()
    };
    let none = Intervention::default();
    let leaves = first(&seen, &intervention(&[], &["visual = zero"]));
    let takes = first(&seen, &intervention(&[], &["visual & deepstack = zero"]));
    assert_eq!(leaves, first(&bare, &none));
    assert_eq!(takes, first(&empty, &none));
    assert!(far(&leaves, &takes) > 0.01, "{}", far(&leaves, &takes));
    // Nothing to take along elsewhere.
    let dir = models::qwen2_like();
    let engine = load(dir.path());
    let change = intervention(&[], &["visual & deepstack = zero"]);
    let error = keep(&engine, &wide(&engine), &with(&spec, &change)).unwrap_err().to_string();
    assert!(error.contains("adds nothing after its layers"), "{error}");
}

#[test]
fn further_rows_stand_past_the_image_and_not_past_its_tokens() {
    let dir = models::qwen2_5_like();
    let engine = load(dir.path());
    let seen = wide(&engine);
    let forced = |n: usize| Experiment { forced_answer: Some(vec![5; n]), ..ask(SHORT, n) };
    let baseline = keep(&engine, &seen, &forced(4)).unwrap();
    // Eight visual tokens take the room of four.
    let positions = engine.vlm.family.positions(&baseline.trace.prompt, &baseline.trace.images);
    let last = baseline.prompt.len() as u32 - 1 - 4;
    assert_eq!(positions.last(), Some(&[last; 3]));
    // Token by token as in one go.
    let logits = |n: usize| keep(&engine, &seen, &forced(n)).unwrap().logits[n - 1].clone();
    for n in 1..4 {
        assert!(far(&logits(n), &baseline.logits[n - 1]) < 1e-4);
    }
    let free = keep(&engine, &seen, &ask(SHORT, 4)).unwrap();
    let again = Experiment { forced_answer: Some(free.trace.ids()), ..ask(SHORT, 4) };
    let again = keep(&engine, &seen, &again).unwrap();
    for (a, b) in free.logits.iter().zip(&again.logits) {
        assert!(far(a, b) < 1e-4);
    }
}
