//! The list of cuts as a table: what is done, the proof, the control, and what it does to every token.
//!
//! Knows the run under the cut; draws nothing.

use crate::{
    trace::{
        offer::Offer,
        report::End,
        table::{Table, Value},
    },
    ui::store::{cut_list::Change, run::Run, selection::CUT, store::Store},
};

const COLUMNS: [&str; 13] = [
    "row",
    "run",
    "text",
    "in force",
    "pairs blocked",
    "layers with pairs",
    "largest attention left",
    "log probability uncut (nats)",
    "log probability under the cut (nats)",
    "change (nats)",
    "tokens likelier",
    "KL divergence (nats)",
    "draws",
];

/// One row, of which most is not there.
#[derive(Default)]
struct Row {
    row: String,
    run: String,
    text: String,
    on: Option<bool>,
    pairs: Option<(u64, usize)>,
    left: Option<f32>,
    logprob: Option<(f32, f32)>,
    change: Option<f32>,
    rank: Option<usize>,
    kl: Option<f32>,
    draws: Option<usize>,
}

impl Row {
    fn of(row: &str, run: &str, text: String) -> Self {
        Row { row: row.to_string(), run: run.to_string(), text, ..Row::default() }
    }

    fn values(self) -> Vec<Value> {
        let number = |value: Option<f32>| value.map_or(Value::Nothing, Value::Number);
        let whole = |value: Option<usize>| value.map_or(Value::Nothing, |n| Value::Whole(n as i64));
        let words = |value: &str| Value::Text(value.to_string());
        vec![
            words(&self.row),
            words(&self.run),
            words(&self.text),
            self.on.map_or(Value::Nothing, |on| words(if on { "yes" } else { "no" })),
            self.pairs.map_or(Value::Nothing, |(pairs, _)| Value::Whole(pairs as i64)),
            whole(self.pairs.map(|(_, layers)| layers)),
            number(self.left),
            number(self.logprob.map(|(uncut, _)| uncut)),
            number(self.logprob.map(|(_, cut)| cut)),
            number(self.change),
            whole(self.rank),
            number(self.kl),
            whole(self.draws),
        ]
    }
}

/// The table; nothing while nothing is cut.
pub fn offers(store: &Store) -> Vec<Offer> {
    let columns = COLUMNS.map(str::to_string).to_vec();
    let run = store.runs.cut().done();
    let name = store.runs.name(CUT);
    let mut rows: Vec<Row> = store.cut.items.iter().map(|item| line(&name, item.on, &item.change)).collect();
    if let Some(run) = run {
        if let Some(end) = &run.end {
            proof(&mut rows, &name, end);
        }
        effects(&mut rows, &name, run);
    }
    if rows.is_empty() {
        return Vec::new();
    }
    let rows = rows.into_iter().map(Row::values).collect();
    vec![Offer::Table(Table { name: format!("cuts of run {name}"), columns, rows })]
}

fn line(run: &str, on: bool, change: &Change) -> Row {
    let kind = match change {
        Change::Knockout(_) => "knockout set up",
        Change::Ablation(_) => "ablation set up",
    };
    Row { on: Some(on), ..Row::of(kind, run, change.to_string()) }
}

fn proof(rows: &mut Vec<Row>, run: &str, end: &End) {
    rows.extend(end.knockouts.iter().map(|report| {
        let layers = report.pairs.iter().filter(|pairs| **pairs > 0).count();
        Row {
            pairs: Some((report.total_pairs(), layers)),
            left: Some(report.blocked_mass),
            ..Row::of("proof", run, report.text.clone())
        }
    }));
    let Some(control) = &end.control else { return };
    let (delta, kl) = (&control.delta, &control.kl);
    let draws = Some(delta.draws.len());
    for (text, change, kl) in [
        ("this cut", delta.intervention, kl.intervention),
        ("as many random patches, mean", delta.mean, kl.mean),
        ("as many random patches, standard deviation", delta.sd, kl.sd),
    ] {
        let row = Row::of("control", run, text.to_string());
        rows.push(Row { change: Some(change), kl: Some(kl), draws, ..row });
    }
}

fn effects(rows: &mut Vec<Row>, run: &str, cut: &Run) {
    rows.extend(cut.scored.iter().enumerate().map(|(at, scored)| {
        let effect = &scored.effect;
        Row {
            logprob: Some((effect.baseline, effect.logprob)),
            change: Some(effect.delta),
            rank: Some(effect.rank),
            kl: Some(effect.kl),
            ..Row::of(&format!("token {at} of the uncut answer"), run, scored.token.text.clone())
        }
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_has_a_value_a_column() {
        let mut store = Store::new(String::new(), 8);
        assert!(offers(&store).is_empty());
        store.cut.add(Change::parse("answer -> visual @ 1").unwrap());
        store.cut.add(Change::parse("sink = mean").unwrap());
        let tables = offers(&store);
        let [Offer::Table(table)] = &tables[..] else { panic!("{tables:?}") };
        assert_eq!(table.rows.len(), 2);
        assert!(table.rows.iter().all(|row| row.len() == table.columns.len()));
        assert_eq!(table.rows[1][2], Value::Text("sink = mean".to_string()));
    }
}
