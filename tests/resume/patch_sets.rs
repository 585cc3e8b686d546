//! The sets of patches that are computed.

use super::*;

/// The visual tokens in a set, by place: what a cut of the last prompt row blanks in every layer and
/// head. (In one alone, a sharp softmax may leave exactly nothing without a cut.)
fn members(engine: &Engine, seen: &Seen, set: &str, seed: u64) -> Result<Vec<usize>, String> {
    let spec = Experiment { seed, ..ask(LEFT, 1) };
    let cut = with(&spec, &intervention(&[&format!("last -> {set} @ all")], &[]));
    let trace = run(engine, seen, &cut).map_err(|e| e.to_string())?;
    let members = blank(&trace);
    assert_eq!(trace.knockouts[0].pairs[0], members.len() as u64, "{set}");
    Ok(members)
}

#[test]
fn an_object_is_the_patches_that_its_mask_touches() {
    let engine = &*ENGINE;
    let pixels = image::open(mask(0, 3).file).unwrap().into_luma8();
    let touched = |value: u16| -> Vec<usize> {
        let inside = |i: u32| {
            let corner = (i % 12 * 16, i / 12 * 16);
            (0..256).any(|p| u16::from(pixels.get_pixel(corner.0 + p % 16, corner.1 + p / 16).0[0]) == value)
        };
        (0..144).filter(|&i| inside(i)).map(|i| i as usize).collect()
    };
    for value in [1, 3] {
        let seen = with_object(engine, 0, value);
        assert_eq!(members(engine, &seen, "object", 0).unwrap(), touched(value));
        let rest: Vec<usize> = (0..144).filter(|i| !touched(value).contains(i)).collect();
        assert_eq!(members(engine, &seen, "visual - object", 0).unwrap(), rest);
    }
    assert!(touched(3).len() > 4 && touched(1) != touched(3));
    assert_eq!(members(engine, &SEEN, "whole", 0).unwrap().len(), 144);
    assert_eq!(members(engine, &SEEN, "lastrow", 0).unwrap(), (132..144).collect::<Vec<_>>());

    let mut seen = see(engine, &scene(0));
    let none = members(engine, &seen, "object", 0).unwrap_err();
    assert!(none.contains("`object` names no visual token: no mask"), "{none}");
    let small = seen.mark(&GrayImage::new(10, 12).into(), &mask(0, 3));
    assert!(refused(small).contains("the mask is 10x12 pixels, expected 192x192"));
    let absent = seen.mark(&pixels.clone().into(), &mask(0, 200));
    assert!(refused(absent).contains("pixels of value 200"));
    let file = ObjectMask { file: "/nowhere/m.png".into(), value: None, share: 0.0 };
    let picture = Picture { image: ImageSource::File(scene(0)), object: Some(file) };
    let missing = engine.look(&picture, &Cancel::default(), &mut |_| {});
    assert!(refused(missing).contains("/nowhere/m.png: cannot be read"));
}

#[test]
fn with_tiles_sets_lie_on_one_grid_and_the_whole_view_is_apart() {
    let engine = &TILED.1;
    let seen = tiled_seen(engine);
    assert_eq!(members(engine, &seen, "whole", 0).unwrap(), (64..80).collect::<Vec<_>>());
    assert_eq!(members(engine, &seen, "lastrow", 0).unwrap(), (76..80).collect::<Vec<_>>());
    // Row 3, columns 2 to 5 of the 8 x 8 grid: the bottom of the upper two tiles.
    assert_eq!(members(engine, &seen, "visual[3:2-5]", 0).unwrap(), [14, 15, 28, 29]);
    assert_eq!(members(engine, &seen, "whole[3:2-3]", 0).unwrap(), [78, 79]);
    // A neighbourhood crosses tiles, not views.
    assert_eq!(members(engine, &seen, "visual[3:3]~1", 0).unwrap(), [10, 11, 14, 15, 24, 28, 34, 35, 48]);
    let object = members(engine, &seen, "object", 0).unwrap();
    let patches = seen.geometry.patches();
    let share = |[x0, y0, x1, y1]: [f32; 4]| {
        let inside = (x1.min(130.0) - x0.max(60.0)).max(0.0) * (y1.min(50.0) - y0).max(0.0);
        inside / ((x1 - x0) * (y1 - y0))
    };
    for (i, patch) in patches.iter().enumerate() {
        // A half itself is in the hands of the last bit.
        let share = share(patch.rect);
        assert!((share - 0.5).abs() < 1e-5 || object.contains(&i) == (share > 0.5), "patch {i}: {patch:?}");
    }
    assert!(object.iter().any(|&i| patches[i].whole) && object.iter().any(|&i| !patches[i].whole));
}

#[test]
fn patches_smaller_than_a_pixel_belong_to_the_object_that_covers_them() {
    let engine = &TILED.1;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("small.png");
    for (width, height) in [(3, 3), (5, 2), (28, 28), (1, 1)] {
        GrayImage::new(width, height).save(&file).unwrap();
        let mut seen = see(engine, &file);
        let object = |value: Option<u16>, share: f32| ObjectMask { file: "mask".into(), value, share };
        let all = GrayImage::from_pixel(width, height, Luma([1]));
        for share in [0.0, 0.25, 0.999, 1.0] {
            seen.mark(&all.clone().into(), &object(None, share)).unwrap();
            let members = seen.object.as_ref().unwrap();
            assert!(members.iter().all(|&m| m), "{width} x {height}, {share}: {members:?}");
        }
        // The left column alone: every patch by the share of its area.
        let left = GrayImage::from_fn(width, height, |x, _| Luma([u8::from(x == 0)]));
        for share in [0.0, 0.3, 0.7] {
            let patches = seen.geometry.patches();
            // Where nothing is covered enough, marking says so.
            let members = match seen.mark(&left.clone().into(), &object(Some(1), share)) {
                Ok(()) => seen.object.clone().unwrap(),
                Err(_) => vec![false; patches.len()],
            };
            for (patch, member) in patches.iter().zip(members) {
                let [x0, _, x1, _] = patch.rect;
                let covered = (x1.min(1.0) - x0).max(0.0) / (x1 - x0);
                let near = share > 0.0 && (covered - share).abs() < 1e-5;
                assert!(near || member == (covered > share), "{width} x {height}, {share}: {patch:?}");
            }
        }
        for share in [-1.0, 1.5, f32::NAN, f32::INFINITY] {
            let error = refused(seen.mark(&all.clone().into(), &object(None, share)));
            assert!(error.contains("no share of a patch"), "{error}");
        }
    }
}

#[test]
fn registers_are_the_unusually_long_embeddings() {
    let engine = &*ENGINE;
    let by_hand = |seen: &Seen| -> Vec<usize> {
        let norms: Vec<f64> = rows(&seen.embeds)
            .iter()
            .map(|row| row.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt())
            .collect();
        let mean = norms.iter().sum::<f64>() / norms.len() as f64;
        let variance = norms.iter().map(|n| (n - mean).powi(2)).sum::<f64>() / norms.len() as f64;
        (0..norms.len()).filter(|&i| norms[i] > mean + 2.0 * variance.sqrt()).collect()
    };
    let mut with_some = 0;
    for n in 0..3 {
        let seen = see(engine, &scene(n));
        match by_hand(&seen) {
            none if none.is_empty() => {
                let error = members(engine, &seen, "register", 0).unwrap_err();
                assert!(error.contains("`register` names no visual token: no embedding's norm"), "{error}");
            }
            some => {
                with_some += 1;
                assert_eq!(members(engine, &seen, "register", 0).unwrap(), some);
            }
        }
    }
    // Two made long by hand, the second longer: it ranks first.
    let mut seen = see(engine, &scene(0));
    let mut embeds = rows(&seen.embeds);
    embeds[20].iter_mut().for_each(|v| *v *= 20.0);
    embeds[7].iter_mut().for_each(|v| *v *= 30.0);
    seen.embeds = Tensor::from_data(TensorData::new(embeds.concat(), seen.embeds.dims()), &engine.vlm.device);
    assert_eq!(members(engine, &seen, "register", 0).unwrap(), [7, 20]);
    assert_eq!(members(engine, &seen, "register[0]", 0).unwrap(), [7]);
    println!("{with_some} of 3 scenes have registers");
}

#[test]
fn random_patches_follow_the_seed() {
    let (engine, seen) = (&*ENGINE, &*SEEN);
    let five = |seed| members(engine, seen, "random[0-4]", seed).unwrap();
    assert_eq!(five(1).len(), 5);
    assert_eq!(five(1), five(1));
    assert_ne!(five(1), five(2));
    assert_eq!(members(engine, seen, "random", 1).unwrap().len(), 144);
    let both = members(engine, seen, "random[0-4] + random[5-9]", 1).unwrap();
    assert_eq!(both, members(engine, seen, "random[0-9]", 1).unwrap());
    assert_eq!(both.len(), 10);
}

#[test]
fn sinks_are_what_every_answer_row_looks_at() {
    let (engine, seen) = (&*ENGINE, &*SEEN);
    let trace = run(engine, seen, &ask(LEFT, 4)).unwrap();
    let visual = visual(&trace);
    let least = |i: usize| {
        let mean = |row: &PatternRow| {
            let all = (0..6).flat_map(|l| (0..4).map(move |h| (l, h)));
            all.map(|(l, h)| f64::from(row.head(l, h)[visual[i]])).sum::<f64>() / 24.0
        };
        trace.rows().map(|(_, row)| mean(&row)).fold(f64::INFINITY, f64::min)
    };
    let least: Vec<f64> = (0..visual.len()).map(least).collect();
    let mean = least.iter().sum::<f64>() / least.len() as f64;
    let sd = (least.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / least.len() as f64).sqrt();
    let sinks: Vec<usize> = (0..least.len()).filter(|&i| least[i] > mean + 2.0 * sd).collect();
    assert!(!sinks.is_empty());
    let cut = intervention(&["last -> sink @ all"], &[]);
    let scratch = run(engine, seen, &with(&ask(LEFT, 4), &cut)).unwrap();
    assert_eq!(blank(&scratch), sinks);
    // From a kept run, its own attention serves; without it there is nothing to go by.
    let baseline = keep(engine, seen, &ask(LEFT, 4)).unwrap();
    assert_eq!(blank(&intervene(engine, seen, &baseline, &cut).unwrap().free), sinks);
    let mut spec = ask(LEFT, 4);
    spec.record.pattern = "answer @ 2".parse().unwrap();
    let partial = keep(engine, seen, &spec).unwrap();
    assert!(refused(intervene(engine, seen, &partial, &cut)).contains("every layer, head and answer row"));
}
