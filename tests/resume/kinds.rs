//! Every family: its positions, its markers and tiles, what it adds after layers.

use image::{Rgb, RgbImage};

use super::*;

/// A model of a family, and pictures of one size.
struct Subject {
    engine: Engine,
    seen: Seen,
    /// Of the same size, which so become the same grid.
    others: TempDir,
    _dir: TempDir,
}

impl Subject {
    fn all() -> Vec<Subject> {
        every_family().into_iter().map(Subject::new).collect()
    }

    fn new(dir: TempDir) -> Subject {
        let engine = load(dir.path());
        let others = tempfile::tempdir().unwrap();
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        for name in ["a.png", "b.png"] {
            let noise = RgbImage::from_fn(200, 120, |_, _| Rgb([0; 3].map(|_: u8| rng.random())));
            noise.save(others.path().join(name)).unwrap();
        }
        let mut seen = see(&engine, &fixture("processing/images/gradient_200x120.png"));
        let mask = GrayImage::from_fn(200, 120, |x, y| Luma([u8::from((60..130).contains(&x) && y < 50)]));
        seen.mark(&mask.into(), &ObjectMask { file: "mask".into(), value: None, share: 0.5 }).unwrap();
        Subject { engine, seen, others, _dir: dir }
    }

    fn family(&self) -> &str {
        &self.engine.info.family
    }

    /// Another picture of the same size.
    fn other(&self) -> PathBuf {
        self.others.path().join("a.png")
    }

    /// Rows and columns of visual tokens, of all tiles together.
    fn grid(&self) -> (usize, usize) {
        let Geometry { rows, cols, views, .. } = &self.seen.geometry;
        (rows.max(&1) * views[0].grid.rows, cols.max(&1) * views[0].grid.cols)
    }
}

#[test]
fn every_family_resumes_as_it_runs_and_what_is_cut_gets_exactly_nothing() {
    for subject in Subject::all() {
        let donors = vec![
            format!("image:{}", subject.other().display()),
            format!("mean:{}", subject.others.path().display()),
        ];
        trials::Trials::new(&subject.engine, &subject.seen, subject.grid(), donors).run(12);
    }
}

#[test]
fn every_familys_ablated_rows_are_zero_a_mean_or_another_image() {
    for subject in Subject::all() {
        let Subject { engine, seen, others, .. } = &subject;
        ablations::ablations_follow_their_definition(engine, seen, &subject.other(), others.path());
    }
}

#[test]
fn every_familys_inside_is_computed_again_as_it_was() {
    for subject in Subject::all() {
        inside::computed_again(&subject.engine, &subject.seen);
    }
}

/// The residual stream behind the last layer is what the answer is read from, also where something is added on the
/// way; and what the lens reads there is what was said.
#[test]
fn every_familys_last_layer_says_the_answer() {
    for subject in Subject::all() {
        let (engine, name) = (&subject.engine, subject.family());
        let baseline = keep(engine, &subject.seen, &ask(SHORT, 3)).unwrap();
        let cancel = Cancel::default();
        let resid = resid_pre(engine, &baseline, engine.info.n_layers, &cancel).unwrap();
        let last = baseline.prompt.len() - 1;
        for (s, logits) in baseline.logits.iter().enumerate() {
            let row = resid.clone().narrow(0, last + s, 1);
            let found = log_softmax(&host(engine.vlm.decoder.unembed(row)).unwrap());
            let said = log_softmax(logits);
            let far = found.iter().zip(&said).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(far <= NATS, "{name}, token {s}: {far}");
        }
    }
}

#[test]
fn two_images_of_unlike_shapes_are_cut_and_resumed() {
    for subject in Subject::all() {
        let (engine, first) = (&subject.engine, &subject.seen);
        let second = see(engine, &fixture("processing/images/alpha_97x300.png"));
        let images = [first, &second];
        let spec = ask_about(2, "what?", 3);
        let cancel = Cancel::default();
        let baseline = engine.keep(&spec, &images, &cancel, &mut |_| {}).unwrap();
        let [n, m] = [first, &second].map(|seen| seen.embeds.dims()[0]);
        assert_eq!(visual(&baseline.trace).len(), n + m, "{}", subject.family());
        for (cut, pairs) in
            [(format!("last -> visual[{n}-] @ 1"), m), (format!("last -> visual[{n}] @ all"), 1)]
        {
            let change = intervention(&[&cut], &["visual[0-1] = mean"]);
            let scratch = engine.scratch(&with(&spec, &change), &images, &cancel, &mut |_| {}).unwrap();
            let resumed = intervene_on(engine, &images, &baseline, &change).unwrap();
            same(&resumed.free, &scratch, &format!("{}, {cut}", subject.family()));
            let found = scratch.knockouts[0].pairs.iter().find(|pairs| **pairs > 0);
            assert_eq!(found, Some(&(pairs as u64)), "{}, {cut}", subject.family());
            assert!((resumed.effects[0].delta).abs() > 0.0, "{}, {cut}", subject.family());
        }
    }
}
