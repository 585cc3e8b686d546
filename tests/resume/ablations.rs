//! Overwritten visual tokens.

use super::*;

fn mean(rows: &[Vec<f32>]) -> Vec<f32> {
    let mean = |i: usize| rows.iter().map(|r| f64::from(r[i])).sum::<f64>() / rows.len() as f64;
    (0..rows[0].len()).map(|i| mean(i) as f32).collect()
}

/// `[vocabulary]` logits of the first answer token, with these rows in the visual places; what the family adds after
/// layers is that of the image, or of the first of several.
fn first_logits(
    engine: &Engine,
    images: &[&Seen],
    baseline: &Baseline,
    visual_rows: &[Vec<f32>],
) -> Vec<f32> {
    let mut input = rows(&engine.vlm.decoder.embed(&baseline.prompt.ids()));
    let places = visual(&baseline.trace);
    for (&position, row) in places.iter().zip(visual_rows) {
        input[position].clone_from(row);
    }
    let shape = [input.len(), engine.info.width];
    let resid = Tensor::from_data(TensorData::new(input.concat(), shape), &engine.vlm.device);
    let geometries: Vec<Geometry> = images.iter().map(|seen| seen.geometry.clone()).collect();
    let added = images[0].added.iter().map(|(layer, features)| {
        let nothing = Tensor::zeros(shape, &engine.vlm.device);
        (*layer, place_rows(nothing, &places, features.clone()))
    });
    let input = Rows {
        resid,
        positions: engine.vlm.family.positions(&baseline.prompt.tokens, &geometries),
        added: added.collect(),
    };
    let cancel = Cancel::default();
    let mut decoding = Decoding::new(&engine.vlm, &[], shape[0], &cancel).unwrap();
    decoding.logits(input).unwrap()
}

pub fn ablations_follow_their_definition(engine: &Engine, seen: &Seen, other: &Path, folder: &Path) {
    let baseline = keep(engine, seen, &ask(SHORT, 3)).unwrap();
    let own = rows(&seen.embeds);
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    let all: Vec<Vec<f32>> = files.iter().flat_map(|f| rows(&see(engine, f).embeds)).collect();
    let other_rows = rows(&see(engine, other).embeds);
    let n = own.len();
    let places: Vec<usize> = (n / 4..n / 2).chain([n - 1]).collect();
    let set = format!("visual[{}-{},{}]", n / 4, n / 2 - 1, n - 1);
    let same = |row: Vec<f32>| vec![row; own.len()];
    for (fill, with_rows) in [
        ("zero".to_string(), same(vec![0.0; own[0].len()])),
        ("mean".to_string(), same(mean(&own))),
        (format!("mean:{}", folder.display()), same(mean(&all))),
        (format!("image:{}", other.display()), other_rows),
    ] {
        let mut expected = own.clone();
        places.iter().for_each(|&p| expected[p].clone_from(&with_rows[p]));
        let by_hand = first_logits(engine, &[seen], &baseline, &expected);
        let change = intervention(&[], &[&format!("{set} = {fill}")]);
        let scratch = keep(engine, seen, &with(&baseline.experiment, &change)).unwrap();
        let outcome = intervene(engine, seen, &baseline, &change).unwrap();
        let (by_hand, scratch) = (log_softmax(&by_hand), log_softmax(&scratch.logits[0]));
        let far = by_hand.iter().zip(&scratch).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(far <= NATS, "{fill}: {far}");
        let id = baseline.trace.ids()[0] as usize;
        assert!((outcome.effects[0].logprob - by_hand[id]).abs() <= NATS, "{fill}");
        let uncut = log_softmax(&baseline.logits[0]);
        assert!(by_hand.iter().zip(&uncut).any(|(a, b)| (a - b).abs() > 10.0 * NATS), "{fill} does nothing");
    }
}

#[test]
fn ablated_rows_are_zero_a_mean_or_another_image() {
    let others = two_scenes();
    ablations_follow_their_definition(&ENGINE, &SEEN, &scene(5), others.path());
    let engine = &TILED.1;
    let images = fixture("processing/images");
    let folder = tempfile::tempdir().unwrap();
    for name in ["grey_300x75.png", "scene_640x427.png"] {
        std::fs::copy(images.join(name), folder.path().join(name)).unwrap();
    }
    ablations_follow_their_definition(
        engine,
        &tiled_seen(engine),
        &images.join("scene_640x427.png"),
        folder.path(),
    );
}

/// What enters the first layer at every visual token, where `set` is overwritten with noise.
fn noised(set: &str, seed: u64) -> Vec<Vec<f32>> {
    let change = intervention(&[], &[&format!("{set} = noise")]);
    let spec = Experiment { seed, ..with(&ask(SHORT, 1), &change) };
    let baseline = keep(&ENGINE, &SEEN, &spec).unwrap();
    let input = rows(&resid_pre(&ENGINE, &baseline, 0, &Cancel::default()).unwrap());
    visual(&baseline.trace).into_iter().map(|position| input[position].clone()).collect()
}

#[test]
fn noise_is_drawn_by_the_seed_for_every_token() {
    let (own, drawn) = (rows(&SEEN.embeds), noised("visual", 1));
    assert_eq!(noised("visual", 1), drawn);
    let other = noised("visual", 2);
    assert!(other.iter().zip(&drawn).all(|(a, b)| a != b), "another seed, other numbers");
    assert!(drawn.windows(2).all(|pair| pair[0] != pair[1]), "a row of its own for each token");
    let part = noised("visual[7,30-39]", 1);
    for (place, row) in part.iter().enumerate() {
        let overwritten = place == 7 || (30..40).contains(&place);
        assert_eq!(row, if overwritten { &drawn[place] } else { &own[place] }, "token {place}");
    }
    // Of 144 rows: five standard errors of either moment, in every dimension.
    let moments = |rows: &[Vec<f32>], i: usize| {
        let mean = rows.iter().map(|row| f64::from(row[i])).sum::<f64>() / rows.len() as f64;
        let square = rows.iter().map(|row| (f64::from(row[i]) - mean).powi(2)).sum::<f64>();
        (mean, (square / rows.len() as f64).sqrt())
    };
    for i in 0..own[0].len() {
        let ((mean, sd), (found_mean, found_sd)) = (moments(&own, i), moments(&drawn, i));
        assert!((found_mean - mean).abs() <= 0.42 * sd, "dimension {i}: mean {found_mean}, not {mean}");
        assert!((found_sd - sd).abs() <= 0.3 * sd, "dimension {i}: deviation {found_sd}, not {sd}");
    }
}

#[test]
fn ablations_of_several_images_count_over_all_of_them() {
    let (engine, first, second) = (&*ENGINE, &*SEEN, see(&ENGINE, &scene(1)));
    let images = [first, &second];
    let spec = ask_about(2, "what?", 1);
    let baseline = engine.keep(&spec, &images, &Cancel::default(), &mut |_| {}).unwrap();
    let mut expected = [rows(&first.embeds), rows(&second.embeds)].concat();
    assert_eq!(expected.len(), 288);
    let mean = mean(&expected);
    expected[60..250].fill(mean);
    let by_hand = log_softmax(&first_logits(engine, &images, &baseline, &expected));
    let change = intervention(&[], &["visual[60-249] = mean"]);
    let outcome = intervene_on(engine, &images, &baseline, &change).unwrap();
    let id = baseline.trace.ids()[0] as usize;
    assert!((outcome.effects[0].logprob - by_hand[id]).abs() <= NATS);
    assert!((outcome.effects[0].delta).abs() > 10.0 * NATS);
    // Each image has a last row; the mask is the first one's.
    let found = |set: &str| {
        let change = intervention(&[&format!("last -> {set} @ 0")], &[]);
        let trace = engine.scratch(&with(&spec, &change), &images, &Cancel::default(), &mut |_| {});
        trace.unwrap().knockouts[0].pairs[0]
    };
    assert_eq!(found("lastrow"), 24);
    assert_eq!(found("object"), first.object.iter().flatten().filter(|m| **m).count() as u64);
}

#[test]
fn impossible_ablations_are_refused_and_say_which_part_is_wrong() {
    let (engine, bare) = (&*ENGINE, see(&ENGINE, &scene(0)));
    let empty = tempfile::tempdir().unwrap();
    let baseline = keep(engine, &bare, &ask(SHORT, 3)).unwrap();
    let text = |fill: &str, path: &Path| format!("visual[0] = {fill}:{}", path.display());
    let fifth = visual(&baseline.trace)[5];
    let nowhere = Path::new("/nowhere/a.png");
    for (texts, parts) in [
        (vec!["question = mean".to_string()], vec!["question = mean", "is question: only visual tokens"]),
        (vec!["visual + last = zero".to_string()], vec!["is last: only visual tokens"]),
        (vec!["answer = zero".to_string()], vec!["is answer: only visual tokens"]),
        (vec!["all = zero".to_string()], vec!["position 0 is bos: only visual tokens"]),
        (
            vec!["visual[0-5] = mean".to_string(), "visual[5] = zero".to_string()],
            vec!["visual[5] = zero", &format!("position {fifth} is overwritten by `visual[0-5] = mean`")],
        ),
        (vec!["visual[144] = mean".to_string()], vec!["visual 144 does not exist: valid are 0 to 143"]),
        (vec!["object = mean".to_string()], vec!["object = mean", "no mask of an object was given"]),
        (vec!["visual[3] - visual = mean".to_string()], vec!["visual[3] - visual", "is empty"]),
        (vec![text("image", nowhere)], vec!["/nowhere/a.png"]),
        (vec![text("image", empty.path())], vec![empty.path().to_str().unwrap()]),
        (vec![text("mean", Path::new("/nowhere"))], vec!["/nowhere", "cannot be read"]),
        (vec![text("mean", empty.path())], vec![empty.path().to_str().unwrap(), "holds no image"]),
    ] {
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let change = intervention(&[], &texts);
        let scratch = refused(run(engine, &bare, &with(&baseline.experiment, &change)));
        let resumed = refused(intervene(engine, &bare, &baseline, &change));
        assert_eq!(scratch, resumed);
        parts.iter().for_each(|part| assert!(scratch.contains(part), "{scratch}"));
    }
    // An image of another shape gives another number of tiles.
    let engine = &TILED.1;
    let seen = tiled_seen(engine);
    let baseline = keep(engine, &seen, &ask(SHORT, 3)).unwrap();
    let wide = fixture("processing/images/grey_300x75.png");
    let change = intervention(&[], &[&text("image", &wide)]);
    let error = refused(intervene(engine, &seen, &baseline, &change));
    let parts = [
        "becomes 1x2 tiles of 4x4 and the whole in 4x4 visual tokens",
        "this prompt has 2x2 tiles of 4x4 and the whole in 4x4",
    ];
    assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    // The same path as a folder and as a file are two things.
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(&wide, folder.path().join("a.png")).unwrap();
    let mean = intervention(&[], &[&text("mean", folder.path())]);
    intervene(engine, &seen, &baseline, &mean).unwrap();
    let error =
        refused(intervene(engine, &seen, &baseline, &intervention(&[], &[&text("image", folder.path())])));
    assert!(!error.contains("becomes"), "{error}");
}
