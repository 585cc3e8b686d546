//! What every layer would say of the right and of a wrong word, against the stream read by hand.
#![allow(clippy::unwrap_used)]

use sightline::{
    engine::{decoding::host, inside::resid_post, logits::log_softmax},
    progress::Cancel,
    spec::{experiment::Experiment, picture::ImageSource},
    studies::survey::{findings::Row, settings::Settings},
};

use super::{BUNDLED, course, keep, measured, scenes};

#[test]
fn words_are_read_from_every_layers_stream_at_the_last_prompt_position() {
    let settings = Settings { length: Some(8), ..Settings::default() };
    let course = course("answer", settings, scenes(1));
    let (images, all) = measured(&course);
    let file = course.subjects.all[0].image.clone();
    let n_layers = BUNDLED.info.n_layers;
    let mut correct = 0;
    for (question, words) in [
        ("is there a book?", ["yes", "no"]),
        ("is there a cow?", ["no", "yes"]),
        ("where is the rabbit?", ["left", "top"]),
        ("where is the camera?", ["top", "center"]),
        ("what is at the top right?", ["house", "nothing"]),
    ] {
        let rows: Vec<Row<'_>> = images[0].iter().filter(|row| row.text("question") == question).collect();
        assert_eq!(rows.len(), 2 * n_layers, "{question}");
        let asked = Experiment::ask(ImageSource::File(file.clone()), question, 8);
        let (baseline, _) = keep(&asked, &file);
        let position = baseline.prompt.len() - 1;
        for (n, row) in rows.into_iter().enumerate() {
            let (word, layer) = (words[n / n_layers], n % n_layers);
            let found = (row.text("word"), row.text("case"), row.number("layer"), row.number("right"));
            let right = f64::from(u8::from(n < n_layers));
            assert_eq!(found, (word, "lower", Some(layer as f64), Some(right)), "{question}");
            assert_eq!(row.number("whole"), Some(1.0));

            let resid = resid_post(&BUNDLED, &baseline, layer, &Cancel::default()).unwrap();
            let logits = host(BUNDLED.vlm.decoder.unembed(resid.narrow(0, position, 1))).unwrap();
            let logprobs = log_softmax(&logits);
            let id = BUNDLED.folder.prompts.text_ids(word).unwrap()[0] as usize;
            let rank = logprobs.iter().filter(|&&other| other > logprobs[id]).count();
            assert_eq!(row.number("rank"), Some(rank as f64), "{question}, {word}, layer {layer}");
            let expected = f64::from(logprobs[id]).exp();
            let found = row.number("probability").unwrap();
            assert!(
                (found - expected).abs() < 1e-5,
                "{question}, {word}, layer {layer}: {found}, {expected}"
            );
            // The last layer's reading is what the model said.
            if layer + 1 == n_layers {
                let said = f64::from(log_softmax(&baseline.logits[0])[id]).exp();
                assert!((found - said).abs() < 1e-5, "{question}, {word}: {found}, said {said}");
                let likeliest = right == 1.0 && rank == 0;
                correct += usize::from(likeliest && row.number("correct") == Some(1.0));
            }
        }
    }
    assert!(correct >= 2, "{correct} of five questions are answered rightly");

    let why = |question: &str| {
        let of = all[0].left_out.iter().filter(|left_out| left_out.what.starts_with(question));
        of.map(|left_out| left_out.why.as_str()).collect::<Vec<&str>>()
    };
    // The bundled tokenizer knows small letters only; of one scene all questions of a type may have one answer.
    assert_eq!(why("is there a book?"), ["the tokenizer does not tell capital letters from small ones"]);
    let background = why("what is the background?");
    assert!(background.len() == 1 && background[0].contains("no question of its type"), "{background:?}");
}

#[test]
fn a_prompt_of_ones_own_has_no_right_answer() {
    let settings = Settings { prompt: Some("is there a book?".to_string()), ..Settings::default() };
    let (images, all) = measured(&course("answer", settings, scenes(1)));
    assert!(images[0].rows.is_empty());
    let [left_out] = &all[0].left_out[..] else { panic!("{:?}", all[0].left_out) };
    assert!(left_out.what.is_empty() && left_out.why.contains("right answer"), "{left_out:?}");
}
