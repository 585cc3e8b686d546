//! Files that the program wrote itself: sessions and traces.

use super::*;

#[test]
fn session_files() {
    let _alone = memory::alone();
    let engine = load(&bundled::model());
    let seen = engine.look_at(bundled::sample_image(), &Cancel::default()).unwrap();
    let uncut = Experiment { control: 1, ..ask("what is the background?", 2) };
    let cut = uncut.clone().with_knockouts(vec!["answer -> random[0-9]~1 @ 1-".parse().unwrap()]);
    let run = |experiment: &Experiment| {
        let images = vec![&seen; experiment.images.len()];
        engine.run(experiment, &images, &Cancel::default(), &mut |_| {}).map(|(_, report)| report)
    };
    let whole = Session {
        format: FORMAT.to_string(),
        model: bundled::model(),
        sha256: engine.info.sha256.clone(),
        sources: engine.info.sources.clone(),
        dtype: "f32".to_string(),
        files: Default::default(),
        entries: [uncut, cut]
            .map(|experiment| {
                let numbers = Some(run(&experiment).unwrap().numbers());
                Entry { experiment, numbers }
            })
            .to_vec(),
        view: Some(json!({ "layer": 3, "runs": [{ "name": "A", "cuts": [[0, 3]] }], "head": null })),
    };
    let (dir, ran) = (tempfile::tempdir().unwrap(), Cell::new(0));
    let file = dir.path().join("session.json");
    let whole = serde_json::to_value(&whole).unwrap();
    // The layout before this one is read too.
    let inputs = broken(vec![whole.clone(), whole.clone(), first_layout(&whole)]);
    try_all("session files", 2, 300 * MB, inputs, |bytes| {
        fs::write(&file, bytes).unwrap();
        let Some(session) = outcome(Session::read(&file)) else { return };
        for entry in &session.entries {
            // As `replay` does, but for a control of a million draws, which is only slow.
            let experiment =
                Experiment { control: entry.experiment.control.min(2), ..entry.experiment.clone() };
            if let (Some(report), Some(numbers)) = (outcome(run(&experiment)), &entry.numbers) {
                ran.set(ran.get() + 1);
                _ = numbers.difference(&report.numbers());
            }
        }
    });
    assert!(ran.get() > 0, "no session was whole enough to be run");
    println!("session files: {} experiments ran", ran.get());
}

/// A session as the first layout had it: one image and one question an entry.
fn first_layout(session: &Value) -> Value {
    let mut session = session.clone();
    session["format"] = json!("sightline-session-1");
    for entry in session["entries"].as_array_mut().unwrap() {
        let entry = entry.as_object_mut().unwrap();
        let (images, turns) = (entry.remove("images").unwrap(), entry.remove("turns").unwrap());
        entry.insert("image".to_string(), images[0]["image"].clone());
        entry.insert("object".to_string(), images[0]["object"].clone());
        entry.insert("prompt".to_string(), turns[0]["content"][1]["text"].clone());
    }
    assert!(Session::parse(&session.to_string()).is_ok());
    session
}

/// A small trace in a folder, of an intervention.
fn saved_trace() -> tempfile::TempDir {
    let engine = load(&bundled::model());
    let seen = engine.look_at(bundled::sample_image(), &Cancel::default()).unwrap();
    let cut = "answer -> visual @ 1-".parse().unwrap();
    let mut experiment = ask("what is the background?", 3).with_knockouts(vec![cut]);
    experiment.record.pattern = "answer[0-1] @ 1-2 # 0,3".parse().unwrap();
    let (_, report) = engine.run(&experiment, &[&seen], &Cancel::default(), &mut |_| {}).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let out = export::folder::open(dir.path()).unwrap();
    export::trace::write(&report, None, &Default::default(), &out).unwrap();
    out.commit().unwrap();
    dir
}

/// Opens a trace and computes as much as it takes to draw it.
fn open_trace(dir: &Path) -> bool {
    let Some(saved) = outcome(export::open::everything(dir)) else { return false };
    let forced = saved.outcome.as_ref().map(|outcome| &outcome.forced);
    for trace in [Some(&saved.answer), saved.uncut.as_ref(), forced].into_iter().flatten() {
        for (s, row) in trace.rows() {
            assert!(s < trace.answer.len());
            assert_eq!(row.data.len(), row.n_layers * row.n_heads * row.n_keys);
            (0..row.n_layers).for_each(|layer| _ = row.head_mean(layer));
        }
        _ = (trace.shares(), words::words(&words::answer(trace)), trace.answer_text());
        _ = spots(&trace.prompt, &trace.images);
        trace.images.iter().for_each(|image| _ = image.patches());
    }
    if let (Some(outcome), Some(uncut)) = (&saved.outcome, &saved.uncut) {
        let (old, new) = &outcome.common;
        assert_eq!((old.len(), new.len()), (uncut.answer.len(), saved.answer.answer.len()));
        assert_eq!(outcome.effects.len(), uncut.answer.len());
    }
    true
}

#[test]
fn saved_traces() {
    let _alone = memory::alone();
    let dir = saved_trace();
    let opened = Cell::new(0);
    let check = || opened.set(opened.get() + usize::from(open_trace(dir.path())));
    check();
    assert_eq!(opened.get(), 1);
    let (json_file, tensors) = (dir.path().join("trace.json"), dir.path().join("trace.safetensors"));
    let whole = fs::read(&json_file).unwrap();
    try_all("trace.json", 1, 64 * MB, broken(vec![serde_json::from_slice(&whole).unwrap()]), |bytes| {
        fs::write(&json_file, bytes).unwrap();
        check();
    });
    // Few of its values are among so many tokens: those that say how much there is, by themselves.
    let document: Value = serde_json::from_slice(&whole).unwrap();
    let shapes = ["format", "images", "recorded", "answer_text", "stop", "knockouts", "timing"];
    for keys in [&shapes[..], &["baseline", "intervention"]] {
        let small = |document: &Value| -> Value {
            keys.iter()
                .map(|key| (key.to_string(), document[key].clone()))
                .collect::<serde_json::Map<_, _>>()
                .into()
        };
        try_all(
            "parts of trace.json",
            1,
            64 * MB,
            edits().prop_map(|e| (e, small(&document))),
            |(e, small)| {
                let mut document: Value = serde_json::from_slice(&whole).unwrap();
                if let Value::Object(changed) = edited(&small, &e) {
                    keys.iter().for_each(|key| _ = document.as_object_mut().unwrap().remove(*key));
                    document.as_object_mut().unwrap().extend(changed);
                }
                fs::write(&json_file, document.to_string()).unwrap();
                check();
            },
        );
    }
    fs::write(&json_file, &whole).unwrap();
    let whole = fs::read(&tensors).unwrap();
    let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    let document: Value = serde_json::from_slice(&whole[8..header]).unwrap();
    let inputs = (prop_oneof![2 => edits().prop_map(Some), 1 => Just(None)], damages(3));
    try_all("trace.safetensors", 1, 64 * MB, inputs, |(new, damages)| {
        let bytes = match new {
            Some(new) => {
                let new = edited(&document, &new).to_string().into_bytes();
                [&(new.len() as u64).to_le_bytes()[..], &new, &whole[header..]].concat()
            }
            None => damaged(whole.clone(), &damages),
        };
        fs::write(&tensors, bytes).unwrap();
        check();
    });
    println!("saved traces: {} were opened", opened.get());
}
