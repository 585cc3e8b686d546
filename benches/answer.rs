//! What an answer costs on the CPU, as ratios against the uncut, free-running answer of the same run.
//!
//! `cargo bench` answers one question about the first sample scene in three ways, interleaved so that
//! noise meets all alike, and prints medians and their ratio to the first.

use std::time::Instant;

use sightline::{
    bundled, device,
    model::{Cancel, image, weights::WeightDtype},
    run::Engine,
    spec::RunSpec,
};

const ROUNDS: usize = 15;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let engine = Engine::load(&bundled::model(), &device::cpu(), WeightDtype::F32)?;
    let picture = image::open(&bundled::sample_image())?;
    let cancel = Cancel::default();
    let seen = engine.see(engine.process(&picture)?, &cancel, &mut |_, _| {})?;
    let free = RunSpec::ask(bundled::PROMPT, 64);
    let answer = engine.run(&free, &[&seen], &cancel, &mut |_| {})?.answer;
    let forced_answer = Some(answer.iter().map(|t| t.id).collect());
    // The cut is scored on the same answer, so that every way runs the same number of rows.
    let cut = vec!["answer -> visual @ 2-5".parse()?];
    let ways = [
        ("free-running, uncut (baseline)", free.clone()),
        ("teacher-forced, uncut", RunSpec { forced_answer: forced_answer.clone(), ..free.clone() }),
        ("teacher-forced, cut", RunSpec { forced_answer, ..free.with_knockouts(cut) }),
    ];
    let mut seconds = vec![Vec::new(); ways.len()];
    for _ in 0..ROUNDS {
        for ((_, spec), times) in ways.iter().zip(&mut seconds) {
            let start = Instant::now();
            engine.run(spec, &[&seen], &cancel, &mut |_| {})?;
            times.push(start.elapsed().as_secs_f64());
        }
    }
    println!("{} answer tokens, {ROUNDS} interleaved rounds, {}", answer.len(), engine.device);
    let medians: Vec<f64> = seconds.iter_mut().map(|times| median(times)).collect();
    for ((name, _), median) in ways.iter().zip(&medians) {
        println!("{name:32} {:8.2} ms   x {:.2}", median * 1e3, median / medians[0]);
    }
    Ok(())
}

fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
