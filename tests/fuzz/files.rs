//! Whole folders: references, scenes, models.

use super::*;

#[test]
fn references_of_verify() {
    let _alone = memory::alone();
    let dir = copy_of("tiny-llava");
    let facts = dir.path().join("reference.json");
    let whole = fs::read(&facts).unwrap();
    let check = || {
        let report = outcome(verify(dir.path(), &device::cpu()));
        report.inspect(|r| assert!(r.to_string().contains(if r.pass { "PASS" } else { "FAIL" })))
    };
    assert!(check().is_some_and(|r| r.pass));
    try_all("reference.json", 40, 256 * MB, broken(vec![read(&facts)]), |bytes| {
        fs::write(&facts, bytes).unwrap();
        check();
    });
    fs::write(&facts, whole).unwrap();
    let tensors = dir.path().join("reference.safetensors");
    let whole = fs::read(&tensors).unwrap();
    let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    let document: Value = serde_json::from_slice(&whole[8..header]).unwrap();
    let edited_header = edits().prop_map(move |e| edited(&document, &e).to_string().into_bytes());
    let inputs = (prop_oneof![2 => edited_header.prop_map(Some), 1 => Just(None)], damages(3));
    try_all("reference.safetensors", 40, 256 * MB, inputs, |(new, damages)| {
        let bytes = match new {
            Some(new) => [&(new.len() as u64).to_le_bytes()[..], &new, &whole[header..]].concat(),
            None => damaged(whole.clone(), &damages),
        };
        fs::write(&tensors, bytes).unwrap();
        check();
    });
}

#[test]
fn annotations_of_eval() {
    let _alone = memory::alone();
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("images")).unwrap();
    for name in ["a.png", "b.png"] {
        fs::write(dir.path().join("images").join(name), "").unwrap();
    }
    let coco = json!({
        "info": {}, "licenses": [],
        "images": [{ "id": 1, "file_name": "a.png", "width": 9, "height": 9 }, { "id": 2, "file_name": "b.png" }],
        "categories": [{ "id": 1, "name": "apple", "supercategory": "food" }, { "id": 7, "name": "dog" },
            { "id": 8, "name": "cat" }],
        "annotations": [
            { "id": 1, "image_id": 1, "category_id": 7, "bbox": [0, 0, 3, 3], "area": 9, "iscrowd": 0 },
            { "id": 2, "image_id": 2, "category_id": 1, "bbox": [0, 0, 3, 3], "area": 9, "iscrowd": 1 },
        ],
    });
    let open = || {
        let Some(folder) = outcome(Folder::open(dir.path(), &FolderOptions::default())) else { return };
        assert!(!folder.items.is_empty() && folder.items.iter().all(|item| item.image.is_file()));
    };
    try_all("annotations.json", 1, 2 * MB, broken(vec![coco.clone()]), |bytes| {
        fs::write(dir.path().join("annotations.json"), bytes).unwrap();
        open();
    });
    fs::write(dir.path().join("annotations.json"), coco.to_string()).unwrap();
    let scene = json!({
        "file": "a.png", "objects": [{ "class": "dog", "size": "small" }], "description": "a dog.",
        "questions": [{ "type": "exists", "question": "is there a dog?", "answer": "yes" }],
    });
    let lines = proptest::collection::vec(broken(vec![scene]), 1..4).prop_map(|lines| lines.join(&b'\n'));
    try_all("scenes.jsonl", 1, 2 * MB, lines, |bytes| {
        fs::write(dir.path().join("scenes.jsonl"), bytes).unwrap();
        open();
    });
}

#[test]
fn files_of_a_whole_model_folder() {
    let _alone = memory::alone();
    let dir = copy_of_folder(&bundled::model());
    let picture = pixels::open(&bundled::sample_image()).unwrap();
    let cpu = device::cpu();
    let mut spec = ask("what is the background?", 2);
    spec.intervention.knockouts = vec!["answer -> visual @ 0".parse().unwrap()];
    let try_it = || {
        let Some(engine) = outcome(load_as(dir.path(), &cpu, WeightDtype::F32)) else { return };
        let cancel = Cancel::default();
        let seen = engine.folder.process(&picture).and_then(|p| engine.see(&p, &cancel, &mut |_| {}));
        let Some(seen) = outcome(seen) else { return };
        outcome(engine.scratch(&spec, &[&seen], &cancel, &mut |_| {}));
    };
    let names = [
        "config.json",
        "tokenizer.json",
        "preprocessor_config.json",
        "tokenizer_config.json",
        "generation_config.json",
    ];
    for name in names {
        let file = dir.path().join(name);
        let whole = fs::read(&file).unwrap();
        try_all(name, 80, 700 * MB, broken(vec![serde_json::from_slice(&whole).unwrap()]), |bytes| {
            fs::write(&file, bytes).unwrap();
            try_it();
        });
        fs::write(&file, whole).unwrap();
    }
}
