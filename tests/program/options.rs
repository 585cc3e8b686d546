//! An option that would change nothing is refused, by name and with what to do; where it changes something, it is
//! taken. Weights that cannot be read stand for the run: whoever comes as far was not refused.
#![allow(clippy::unwrap_used)]

use std::{fs, path::Path};

use crate::common::{
    program::{Done, asset, json, sightline, text},
    without_weights,
};

const WEIGHTS: &str = "model.safetensors";
/// Arguments, and what a refusal names; nothing for those that are taken.
type Case<'a> = (&'a [&'a str], &'a [&'a str]);

fn hold(cases: &[Case<'_>], run: impl Fn(&[&str]) -> Done) {
    for (args, parts) in cases {
        println!("{args:?}");
        let done = run(args);
        assert_eq!(done.err.contains(WEIGHTS), parts.is_empty(), "{args:?}:\n{}", done.err);
        done.refuses(parts);
    }
}

fn on_scene(command: &str, model: &Path, more: &[&str]) -> Done {
    let image = asset("scenes/images/000000.png");
    let args =
        [command, "--device", "cpu", "--model", text(model), "--image", text(&image), "--prompt", "a duck?"];
    sightline(args.iter().chain(more))
}

#[test]
fn run_takes_no_option_in_vain() {
    let (model, out, mask) =
        (without_weights(), tempfile::tempdir().unwrap(), asset("scenes/masks/000000.png"));
    let (mask, cut) = (text(&mask), "answer -> visual @ 1");
    hold(
        &[
            (&[], &[]),
            (&["--control", "2"], &["--control", "intervention", "--knockout"]),
            (&["--control", "0", "--knockout", cut], &["--control"]),
            (&["--control", "2", "--knockout", cut], &[]),
            (&["--check"], &["--check", "intervention", "--ablate"]),
            (&["--check", "--ablate", "visual = mean"], &[]),
            (&["--seed", "3"], &["--seed", "drawn", "--temperature"]),
            (&["--seed", "3", "--knockout", cut], &["--seed"]),
            (&["--seed", "3", "--knockout", cut, "--control", "2"], &[]),
            (&["--seed", "3", "--knockout", "answer -> random[0-9] @ 1"], &[]),
            (&["--seed", "3", "--top-p", "0.5"], &[]),
            (&["--object", mask], &["--object", "no set names `object`"]),
            (&["--object", mask, "--ablate", "sink = mean"], &["--object", "no set names `object`"]),
            (&["--object", mask, "--ablate", "object~1 = mean"], &[]),
            (&["--object-value", "1"], &["--object <FILE>"]),
            (&["--object-share", "0.5"], &["--object <FILE>"]),
            (&["--answer", "a duck", "--max-new", "9"], &["--max-new", "--answer"]),
            (&["--answer", "a duck", "--max-new", "9", "--compress", "5", "--ask", "what?"], &[]),
            (&["--answer", "a duck", "--temperature", "2"], &["--temperature", "--answer"]),
            (&["--answer", "a duck", "--top-p", "0.5"], &["--top-p", "--answer"]),
            (&["--answer", "a duck", "--temperature", "2", "--knockout", cut], &[]),
            (&["--compress", "5"], &["--ask"]),
            (&["--ask", "what?"], &["--compress"]),
            (&["--keep-answer"], &["--compress"]),
            (&["--pictures", "--record", "none"], &["--pictures", "--record none"]),
            (&["--pictures", "--record", "answer @ 1"], &[]),
            (&["--square", "1:1", "--square", "1:1"], &["--square", "twice"]),
            (&["--vision-attention", "1", "--vision-attention", "1"], &["--vision-attention", "twice"]),
            (&["--find", "a", "--find", "a"], &["--find", "twice"]),
            (&["--compress", "5", "--compress", "5", "--ask", "what?"], &["--compress", "twice"]),
            (&["--compress", "5", "--ask", "what?", "--ask", "what?"], &["--ask", "twice"]),
        ],
        |more| on_scene("run", model.path(), &[&["--out", text(out.path())], more].concat()),
    );
}

#[test]
fn effects_take_no_option_in_vain() {
    let (model, out) = (without_weights(), tempfile::tempdir().unwrap());
    hold(
        &[
            (&["--effect-map", "4"], &[]),
            (&["--effect-map", "0"], &["--effect-map", "at least 1"]),
            (&["--effect-by", "mean"], &["--effect-map <SIDE>"]),
            (&["--effect-layers", "1"], &["--effect-map <SIDE>"]),
            (&["--effect-map", "4", "--effect-by", "grey"], &["--effect-by", "cut, mean"]),
            (&["--effect-map", "4", "--effect-by", "mean"], &[]),
            (&["--effect-map", "4", "--effect-layers", "1-3"], &[]),
            (
                &["--effect-map", "4", "--effect-by", "mean", "--effect-layers", "1"],
                &["--effect-layers", "--effect-by mean"],
            ),
            (
                &["--effect-map", "4", "--effect-layers", "9"],
                &["--effect-layers 9", "layer 9 does not exist"],
            ),
            (&["--edge-effects", "2"], &["--edge-effects", "odd"]),
            (&["--edge-effects", "0"], &["--edge-effects", "at least 1"]),
            (&["--edge-effects", "3"], &[]),
            (&["--head-effects"], &[]),
            (&["--effect-tokens", "0"], &["--effect-tokens", "--head-effects"]),
            (&["--head-effects", "--effect-tokens", "0-3,5"], &[]),
            (&["--head-effects", "--effect-tokens", "x"], &["--effect-tokens", "`x` is not a number"]),
            (
                &["--head-effects", "--effect-tokens", "9", "--max-new", "9"],
                &["--effect-tokens 9", "answer token 9 does not exist: valid are 0 to 8"],
            ),
        ],
        |more| on_scene("run", model.path(), &[&["--out", text(out.path())], more].concat()),
    );
}

#[test]
fn lens_takes_no_option_in_vain() {
    let (model, mask) = (without_weights(), asset("scenes/masks/000000.png"));
    let mask = text(&mask);
    hold(
        &[
            (&[], &[]),
            (&["--record", "answer @ 1"], &["--record", "lens"]),
            (&["--record", "none"], &["--record", "lens"]),
            (&["--seed", "3"], &["--seed"]),
            (&["--seed", "3", "--at", "random[0-3]"], &[]),
            (&["--object", mask], &["--object", "no set names `object`"]),
            (&["--object", mask, "--at", "object"], &[]),
            (&["--answer", "a duck", "--max-new", "9"], &["--max-new", "--answer"]),
            (&["--knockout", "answer -> sink @ 1"], &[]),
        ],
        |more| on_scene("lens", model.path(), more),
    );
}

#[test]
fn eval_takes_no_option_in_vain() {
    let (model, scenes, cut) = (without_weights(), asset("scenes"), "answer -> visual @ 1");
    let annotations = scenes.join("annotations.json");
    let annotations = text(&annotations);
    hold(
        &[
            (&[], &[]),
            (&["--localise"], &[]),
            (&["--localise", "--knockout", cut], &["--knockout", "--localise"]),
            (&["--localise", "--blank"], &["--blank", "--localise"]),
            (&["--localise", "--shuffle"], &["--shuffle", "--localise"]),
            (&["--localise", "--describe", ""], &["--localise", "--describe"]),
            (&["--blank", "--shuffle"], &["--blank", "--shuffle"]),
            (&["--knockout", cut, "--blank"], &[]),
            (&["--max-new", "0"], &["--max-new", "at least 1"]),
            (&["--max-new", "9"], &[]),
            (&["--max-new", "9", "--describe", ""], &["--max-new", "--describe"]),
            (&["--describe", ""], &[]),
            (&["--poll", "a {class}?"], &["--poll", "questions of its own", "--annotations"]),
            (&["--poll", "a {class}?", "--annotations", annotations], &[]),
            (&["--knockout", "answer -> object @ 1"], &["--knockout", "`object`"]),
            (&["--knockout", "answer -> sink @ 1"], &["--knockout", "`sink`"]),
            (&["--knockout", "gradient[0] -> bos @ 1"], &["--knockout", "`gradient`"]),
            (&["--knockout", "answer -> register @ 1"], &[]),
        ],
        |more| {
            let args = ["eval", "--device", "cpu", "--model", text(model.path()), "--scenes", text(&scenes)];
            sightline(args.iter().chain(more))
        },
    );
    // Neither a question nor a description: nothing would be asked.
    let empty = tempfile::tempdir().unwrap();
    fs::copy(scenes.join("images/000000.png"), empty.path().join("a.png")).unwrap();
    let coco = r#"{"images": [{"id": 1, "file_name": "a.png"}], "categories": [], "annotations": []}"#;
    fs::write(empty.path().join("annotations.json"), coco).unwrap();
    let on = text(empty.path());
    sightline(["eval", "--device", "cpu", "--scenes", on, "--describe", ""]).refuses(&["nothing to ask"]);
}

#[test]
fn a_lens_prints_as_many_candidates_as_are_asked_for() {
    let image = asset("scenes/images/000000.png");
    let printed = |more: &[&str]| {
        let args =
            ["lens", "--device", "cpu", "--image", text(&image), "--prompt", "a duck?", "--max-new", "1"];
        let done = sightline(args.iter().chain(&["--layers", "1"]).chain(more)).succeeds();
        let line = done.out.lines().nth(1).unwrap().to_string();
        // A probability each.
        line.split_whitespace().filter(|w| w.starts_with(['0', '1']) && w.contains('.')).count()
    };
    assert_eq!(printed(&[]), 5);
    assert_eq!(printed(&["--top", "8"]), 8);
    assert_eq!(printed(&["--top", "2"]), 2);
}

#[test]
fn number_formats_are_taken_by_name_and_written_down_as_they_are_in_use() {
    let image = asset("scenes/images/000000.png");
    let run = |out: &Path, more: &[&str]| {
        let args = ["run", "--device", "cpu", "--image", text(&image), "--prompt", "a duck?"];
        let rest = ["--max-new", "3", "--out", text(out)];
        sightline(args.iter().chain(&rest).chain(more))
    };
    // The bundled model is float32.
    for (more, dtype, words) in [
        (&[][..], "f32", "float32 weights and KV cache;"),
        (&["--dtype", "auto"], "f32", "float32 weights and KV cache;"),
        (&["--dtype", "f16"], "f16", "float16 weights and KV cache;"),
        (&["--dtype", "bf16"], "bf16", "bfloat16 weights, float32 KV cache;"),
    ] {
        let out = tempfile::tempdir().unwrap();
        run(out.path(), more).succeeds();
        let read = |name: &str| json(&out.path().join(name));
        assert!(read("trace.json")["dtype"].as_str().unwrap().starts_with(words), "{more:?}");
        assert_eq!(read("session.json")["dtype"], dtype, "{more:?}");
        sightline(["replay", text(&out.path().join("session.json")), "--device", "cpu"]).succeeds();
    }
    run(Path::new("never"), &["--dtype", "f8"]).refuses(&["--dtype", "f8", "auto", "bf16"]);
}
