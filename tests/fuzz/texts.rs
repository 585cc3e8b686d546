//! Texts that people type: knockouts, ablations, recordings.

use super::*;

/// Visual tokens in rows of two, some sets of them, and one set that is not known.
fn patches(spans: &[Span]) -> Patches {
    let visual: Vec<usize> = (0..spans.len()).filter(|&p| spans[p] == Span::Visual).collect();
    let spot =
        |(i, &position): (usize, &usize)| Spot { position, image: 0, whole: i > 1, row: i / 2, col: i % 2 };
    let some = visual.iter().rev().copied().collect::<Vec<_>>();
    let sets = PatchSet::ALL.map(|set| match set {
        PatchSet::Sink => (set, Err("there is none".to_string())),
        PatchSet::Object => (set, Ok(some[..some.len().min(1)].to_vec())),
        PatchSet::Register => (set, Ok(Vec::new())),
        _ => (set, Ok(some.clone())),
    });
    Patches { spots: visual.iter().enumerate().map(spot).collect(), sets: sets.into() }
}

/// Everything that a knockout may be resolved on here.
fn resolve_everywhere(knockout: &Knockout) {
    use Span::{Bos, Last, Markers, Question, System, Visual};
    let short = [Bos, System, Visual, Visual, Question, Last];
    let tiles = [Bos, System, Markers, Visual, Visual, Visual, Visual, Markers, Question, System, Last];
    for spans in [&short[..], &tiles[..], &[Last], &[]] {
        for (max_new, n_layers, n_heads) in [(4, 4, 2), (0, 1, 1), (1, 0, 0), (1000, 32, 32)] {
            let patches = patches(spans);
            let scope = Scope { spans, patches: &patches, max_new, n_layers, n_heads };
            let Some(cut) = outcome(knockout.resolve(&scope)) else { continue };
            assert_eq!((cut.layers.len(), cut.heads.len()), (n_layers, n_heads));
            let blocked = |row: usize| (0..spans.len() + 3).filter(|&key| cut.blocks(row, key)).count();
            (0..spans.len() + 3).map(blocked).for_each(drop);
        }
    }
}

fn parse(text: &str) -> Option<Knockout> {
    let knockout: Knockout = outcome(text.parse())?;
    let printed = knockout.to_string();
    let again: Knockout = printed.parse().unwrap_or_else(|e| panic!("`{text}` prints as `{printed}`: {e}"));
    assert_eq!(again, knockout, "`{text}` prints as `{printed}`");
    resolve_everywhere(&knockout);
    Some(knockout)
}

#[test]
fn knockouts_typed_at_random() {
    let _alone = memory::alone();
    const PIECES: &str = "answer|visual|bos|system|markers|question|last|decode|all|pos|->|@|#|[|]|+|-|,|~|!|:| |\
        whole|lastrow|object|register|sink|gradient|random|\
        0|1|2|7|30|4294967295|4294967296|99999999999999999999|-1|all|ALL|\u{130}|\u{2192}|\t|->->|@@|[[|]]";
    let pieces: Vec<String> = PIECES.split('|').map(str::to_string).collect();
    let from_pieces = proptest::collection::vec(select(pieces), 0..24).prop_map(|p| p.concat());
    let near = (grammatical(), damages(3))
        .prop_map(|(text, d)| String::from_utf8_lossy(&damaged(text.into_bytes(), &d)).into_owned());
    let inputs = prop_oneof![any::<String>(), from_pieces, near];
    try_all("knockout texts", 1, 2 * MB, inputs, |text| _ = parse(&text));
}

/// A text that follows the grammar.
fn grammatical() -> impl Strategy<Value = String> {
    let heads = prop_oneof![Just(String::new()), numbers().prop_map(|n| format!(" # {n}"))];
    (set(), set(), numbers(), heads)
        .prop_map(|(query, key, layers, heads)| format!("{query} -> {key} @ {layers}{heads}"))
}

fn range() -> impl Strategy<Value = String> {
    (0usize..12, 0usize..6, 0usize..4).prop_map(|(from, more, kind)| match kind {
        0 => from.to_string(),
        1 => format!("{from}-{}", from + more),
        2 => format!("{from}-"),
        _ => format!("{from}~{more}"),
    })
}

fn numbers() -> impl Strategy<Value = String> {
    (proptest::collection::vec(range(), 1..4), 0usize..6).prop_map(|(ranges, kind)| match kind {
        0 => "all".to_string(),
        1 => format!("!{}", ranges.join(",")),
        _ => ranges.join(","),
    })
}

fn set() -> impl Strategy<Value = String> {
    let named = Name::WORDS.split(", ").filter(|word| *word != "pos").collect::<Vec<_>>();
    let cell = (0usize..3, 0usize..3).prop_map(|(row, col)| format!("{row}:{col}-{}", col + 1));
    let places =
        proptest::collection::vec(prop_oneof![3 => range(), 1 => cell], 1..4).prop_map(|p| p.join(","));
    let term = prop_oneof![
        2 => select(named.clone()).prop_map(str::to_string),
        2 => (select(named.clone()), places.clone()).prop_map(|(name, p)| format!("{name}[{p}]")),
        1 => (select(named), 0usize..4).prop_map(|(name, rings)| format!("{name}~{rings}")),
        1 => places.prop_map(|p| format!("pos[{p}]")),
    ]
    .boxed();
    let more = proptest::collection::vec((any::<bool>(), term.clone()), 0..3);
    (term, more).prop_map(|(first, more)| {
        let sign = |minus: bool| if minus { " - " } else { " + " };
        more.into_iter().fold(first, |text, (minus, term)| text + sign(minus) + &term)
    })
}

#[test]
fn knockouts_print_what_they_are() {
    let _alone = memory::alone();
    try_all("knockouts by the grammar", 1, 2 * MB, grammatical(), |text| {
        assert!(parse(&text).is_some(), "`{text}` is not read");
    });
}

#[test]
fn ablations_and_recordings() {
    let _alone = memory::alone();
    let fill = select(vec!["mean", "zero", "noise", "mean:/a/B c", "image:x=y.png", "grey", "mean:", ""]);
    let ablation = (set(), fill).prop_map(|(set, fill)| format!("{set} = {fill}"));
    let recording = (numbers(), numbers(), numbers())
        .prop_map(|(rows, layers, heads)| format!("answer[{rows}] @ {layers} # {heads}"));
    let whole = prop_oneof![ablation, recording, any::<String>()];
    let inputs = (whole, prop_oneof![Just(Vec::new()), damages(3)])
        .prop_map(|(text, d)| String::from_utf8_lossy(&damaged(text.into_bytes(), &d)).into_owned());
    try_all("ablations and recordings", 1, 2 * MB, inputs, |text| {
        if let Some(ablation) = outcome(text.parse::<Ablation>()) {
            assert_eq!(ablation.to_string().parse::<Ablation>().unwrap(), ablation);
        }
        if let Some(pattern) = outcome(text.parse::<Pattern>()) {
            assert_eq!(pattern.to_string().parse::<Pattern>().unwrap(), pattern);
            for (layers, heads, rows) in [(0, 0, 0), (1, 1, 1), (32, 32, 300)] {
                outcome(pattern.resolve(layers, heads, rows));
            }
        }
    });
}
