//! Cuts that contradict each other, or leave a row nothing.

use super::*;

#[test]
fn the_same_cut_twice_is_refused_by_name() {
    let (engine, seen) = (&*ENGINE, &*SEEN);
    let baseline = keep(engine, seen, &ask(SHORT, 3)).unwrap();
    for (first, second) in [
        ("answer -> visual @ 1", "answer -> visual @ 1"),
        ("last -> visual[0-143] @ 1-2", "last -> visual @ 1,2 # all"),
        ("answer -> visual @ !0", "last + decode -> random @ 1-"),
    ] {
        let cut = intervention(&["bos -> visual @ 0", first, second], &[]);
        let scratch = refused(run(engine, seen, &with(&baseline.experiment, &cut)));
        assert!(scratch.contains(&format!("the very pairs that `{first}` cuts")), "{scratch}");
        assert_eq!(scratch, refused(intervene(engine, seen, &baseline, &cut)));
    }
    // Not the same: another head, another layer.
    for second in ["answer -> visual @ 1 # 0", "answer -> visual @ 2"] {
        intervene(engine, seen, &baseline, &intervention(&["answer -> visual @ 1", second], &[])).unwrap();
    }
}

#[test]
fn a_cut_that_leaves_a_row_nothing_is_refused_by_every_door() {
    let (engine, seen, cancel) = (&*ENGINE, &*SEEN, Cancel::default());
    let baseline = keep(engine, seen, &ask(SHORT, 3)).unwrap();
    let texts = ["answer -> visual @ 2", "last -> all - visual @ 1-2"];
    let cut = intervention(&texts, &[]);
    let scratch = refused(run(engine, seen, &with(&baseline.experiment, &cut)));
    assert!(scratch.starts_with(&format!("`{}`: the knockouts leave", texts.join("; "))), "{scratch}");
    assert!(scratch.contains("nothing to look at in layer 2, head 0"), "{scratch}");
    assert_eq!(scratch, refused(intervene(engine, seen, &baseline, &cut)));
    assert_eq!(scratch, refused(score(engine, &baseline, &cut, &[seen], &cancel)));
}
