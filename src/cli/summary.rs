//! What `run` prints when it is done.

use std::path::Path;

use sightline::{
    export::trace as data,
    spec::span::Span,
    trace::{
        finding::{Block, Compression, Effects},
        report::{Outcome, Report},
        tokens::AnswerToken,
    },
};

use crate::cli::subject::Opened;

/// `checked`: the difference to a run from scratch, and whether the check held.
pub fn print_summary(
    report: &Report,
    checked: Option<(data::Difference, bool)>,
    opened: &Opened,
    out: &Path,
) {
    let trace = &report.answer;
    let t = &trace.timing;
    println!("model: {} ({} parameters, {})", trace.model.name, trace.model.parameters, trace.dtype);
    println!("read from {}", trace.model.sources);
    println!("device: {}", trace.device);
    for seen in &opened.seen {
        println!("image: {}", seen.description);
    }
    println!("prompt: {} tokens", trace.prompt.len());
    for span in Span::ALL {
        let n = trace.prompt.iter().filter(|t| t.span == span).count();
        if n > 0 {
            println!("  {}: {n}", span.name());
        }
    }
    if let Some(begun) = report.experiment.begins() {
        println!("given: {begun}");
    }
    println!("answer: {}", trace.answer_text());
    for k in &trace.knockouts {
        let (pairs, mass) = (k.total_pairs(), k.blocked_mass);
        println!("knockout: {}: {pairs} pairs blocked, largest attention left on them {mass}", k.text);
    }
    if let Some(outcome) = &report.outcome {
        print_outcome(report, outcome);
    }
    if let Some((d, held)) = checked {
        println!(
            "from scratch: {}; largest difference of a log probability {:.1e}, of attention {:.1e}{}",
            if d.same_tokens { "the same tokens" } else { "OTHER TOKENS" },
            d.logprob,
            d.attention,
            if held { "" } else { ": the check FAILED" }
        );
    }
    let speed = t.tokens_per_second().map(|s| format!(", decode {s:.1} tokens/s")).unwrap_or_default();
    println!(
        "time: load {:.2} s, encode {:.2} s, prefill {:.2} s{speed}",
        t.load.as_secs_f64(),
        t.encode.as_secs_f64(),
        t.prefill.as_secs_f64()
    );
    println!("written: {}", std::path::absolute(out).unwrap_or_else(|_| out.to_path_buf()).display());
}

fn print_outcome(report: &Report, outcome: &Outcome) {
    println!("uncut answer: {}", report.baseline().answer_text());
    match outcome.start {
        Some(s) => println!("started at layer {}, row {}: {} rows in one pass", s.layer, s.row, s.rows),
        None => println!("touches nothing: the uncut run stands"),
    }
    println!("the uncut answer under the intervention, token by token:");
    println!("  {:<16} {:>9} {:>9} {:>9} {:>6} {:>9}", "token", "before", "now", "change", "rank", "KL");
    for (token, e) in report.baseline().answer.iter().zip(&outcome.effects) {
        println!(
            "  {:<16} {:>9.4} {:>9.4} {:>9.4} {:>6} {:>9.4}",
            quoted(token),
            e.baseline,
            e.logprob,
            e.delta,
            e.rank,
            e.kl
        );
    }
    if let Some(control) = &outcome.control {
        let (d, k) = (&control.delta, &control.kl);
        println!(
            "control, {} draws of as many random patches: change in log probability {:.4} +- {:.4} (intervention {:.4}), KL {:.4} +- {:.4} (intervention {:.4})",
            d.draws.len(),
            d.mean,
            d.sd,
            d.intervention,
            k.mean,
            k.sd,
            k.intervention
        );
    }
}

/// A token in quotes, with what cannot be seen written out; the end by its name, without them.
fn quoted(token: &AnswerToken) -> String {
    if token.end {
        return "end".to_string();
    }
    let one = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    format!("“{}”", token.text.chars().map(one).collect::<String>())
}

pub fn print_extra(extra: &data::Extra) {
    for (phrase, words) in &extra.found {
        let places: Vec<String> = words.iter().map(|w| format!("{:?}", w.positions)).collect();
        let places = if places.is_empty() { "nowhere".to_string() } else { places.join(", ") };
        println!("`{phrase}`: positions {places}");
    }
    for Compression { percent, tokens, visual, full_tokens, questions, same, agreement } in &extra.compression
    {
        println!(
            "context with {percent} % of the visual tokens: {tokens} of {full_tokens} tokens a layer ({visual} visual); {:.0} % of {} answers the same, token agreement {agreement:.3}",
            same * 100.0,
            questions.len()
        );
        for q in questions {
            println!("  {}: {} | whole context: {}", q.question, q.compressed, q.full);
        }
    }
    if let Some(effects) = &extra.effects {
        print_effects(effects);
    }
}

/// What matters most of everything that was taken away.
fn print_effects(effects: &Effects) {
    let n = effects.tokens.len();
    println!("changes in the log probability of the uncut answer ({n} of its tokens), in nats:");
    let blocks = effects.blocks.as_ref().map_or(&[][..], |blocks| blocks.found.as_slice());
    for agreement in &effects.agreement {
        let side = agreement.side;
        let of_side: Vec<&Block> = blocks.iter().filter(|block| block.side == side).collect();
        let lowest = of_side.iter().map(|block| block.delta).fold(f32::INFINITY, f32::min);
        let best = agreement.mean.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
        let said = |(layer, rank): (usize, &f32)| {
            format!("; rank correlation with attention at most {rank:.3}, in layer {layer}")
        };
        let with = best.map(said).unwrap_or_default();
        println!("  {} blocks of {side} x {side} patches: lowest {lowest:.4}{with}", of_side.len());
    }
    let edges = effects.edges.iter().flat_map(|edges| &edges.found);
    if let Some(edge) = edges.min_by(|a, b| a.delta.total_cmp(&b.delta)) {
        let (query, key) = (edge.query.name(), edge.key.name());
        println!("  edges: lowest {:.4}, {query} -> {key} around layer {}", edge.delta, edge.layer);
    }
    if let Some(head) = effects.heads.iter().min_by(|a, b| a.delta.total_cmp(&b.delta)) {
        println!("  heads: lowest {:.4}, layer {} head {}", head.delta, head.layer, head.head);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_token_leaves_an_empty_cell() {
        let of = |text: &str, end: bool| {
            let top = Vec::new();
            let (position, id, span, logprob) = (0, 7, Span::Answer, -1.0);
            let text = text.to_string();
            let entropy = None;
            quoted(&AnswerToken { position, id, text, span, logprob, entropy, top, end, partial: false })
        };
        let told = [(" red", false), (" ", false), ("\n", false), ("", false), ("</s>", true)];
        assert_eq!(told.map(|(text, end)| of(text, end)), ["“ red”", "“ ”", "“\\n”", "“”", "end"]);
    }
}
