//! Running: an experiment in, a report out. The one way in which window, command line, evaluation and
//! studies run a model.

use crate::{
    engine::{
        answer::{Keep, answer},
        baseline::Baseline,
        control::control,
        decoding::Decoding,
        error::RunError,
        event::RunEvent,
        load::Engine,
        memory::Sizes,
        resolve::Asked,
        resume::intervene,
        see::Seen,
    },
    progress::Cancel,
    prompt::build::Prompt,
    spec::{
        experiment::Experiment,
        record::{Held, Memory},
    },
    trace::{
        report::Report,
        run::{Stop, Trace},
        tokens::visual,
    },
};

pub use crate::engine::answer::{Reply, reply};

impl Engine {
    /// [`Engine::run_after`] nothing.
    ///
    /// # Errors
    /// [`RunError`].
    pub fn run(
        &self,
        experiment: &Experiment,
        images: &[&Seen],
        cancel: &Cancel,
        on: &mut dyn FnMut(RunEvent<'_>),
    ) -> Result<(Baseline, Report), RunError> {
        self.run_after(None, experiment, images, cancel, on)
    }

    /// Runs an experiment on its encoded images: uncut, then the intervention from there. `on` hears of the
    /// answer that was asked for. Returns the uncut run too, to start others from; a cancelled experiment
    /// returns what there was.
    ///
    /// `before`: an uncut run about the same first images. The tokens that its conversation and this one begin with
    /// alike, its answer among them, are not run again: their keys, values and residuals are taken over.
    ///
    /// # Errors
    /// [`RunError`].
    pub fn run_after(
        &self,
        before: Option<&Baseline>,
        experiment: &Experiment,
        images: &[&Seen],
        cancel: &Cancel,
        on: &mut dyn FnMut(RunEvent<'_>),
    ) -> Result<(Baseline, Report), RunError> {
        if experiment.intervention.is_empty() {
            let baseline = answer(self, experiment, images, Keep::All(before), cancel, on)?;
            let report = self.run_from(&baseline, experiment, images, cancel, &mut |_| {})?;
            return Ok((baseline, report));
        }
        // What is too much for the intervention is told before its uncut run has begun.
        self.allow(experiment, images, self.prompt(&experiment.turns, images)?.len(), Held::Intervention)?;
        let uncut = experiment.uncut();
        let baseline = answer(self, &uncut, images, Keep::All(before), cancel, &mut |_| {})?;
        let report = self.run_from(&baseline, experiment, images, cancel, on)?;
        Ok((baseline, report))
    }

    /// Runs an experiment whose uncut run is at hand.
    ///
    /// # Errors
    /// [`RunError`].
    pub fn run_from(
        &self,
        baseline: &Baseline,
        experiment: &Experiment,
        images: &[&Seen],
        cancel: &Cancel,
        on: &mut dyn FnMut(RunEvent<'_>),
    ) -> Result<Report, RunError> {
        let experiment = experiment.clone();
        let uncut = baseline.trace.clone();
        if experiment.intervention.is_empty() {
            return Ok(Report { experiment, uncut: None, answer: uncut, outcome: None });
        }
        if uncut.stop == Stop::Cancelled {
            // Stopped before the intervention's own answer began.
            let answer = Trace { answer: Vec::new(), pattern: Vec::new(), flow: None, ..uncut.clone() };
            return Ok(Report { experiment, uncut: Some(uncut), answer, outcome: None });
        }
        self.allow(&experiment, images, baseline.prompt.len(), Held::Intervention)?;
        let intervention = &experiment.intervention;
        let (answer, mut outcome) = intervene(self, baseline, intervention, images, cancel, on)?;
        if let Some(outcome) = outcome.as_mut().filter(|_| experiment.control > 0) {
            outcome.control = match control(self, baseline, intervention, images, experiment.control, cancel)
            {
                // The rest is worth having without it.
                Err(e) if e.is_cancelled() => None,
                other => Some(other?),
            };
        }
        Ok(Report { experiment, uncut: Some(uncut), answer, outcome })
    }

    /// Runs an experiment from the start, its intervention in force all the while, and keeps residuals and KV
    /// cache.
    ///
    /// # Errors
    /// [`RunError`].
    pub fn keep(
        &self,
        experiment: &Experiment,
        images: &[&Seen],
        cancel: &Cancel,
        on: &mut dyn FnMut(RunEvent<'_>),
    ) -> Result<Baseline, RunError> {
        answer(self, experiment, images, Keep::All(None), cancel, on)
    }

    /// Runs an experiment from the start, its intervention in force all the while; only its answer is wanted.
    /// A cancelled run returns the trace of what there was.
    ///
    /// # Errors
    /// [`RunError`]; nothing of the engine is changed by a failed run.
    pub fn scratch(
        &self,
        experiment: &Experiment,
        images: &[&Seen],
        cancel: &Cancel,
        on: &mut dyn FnMut(RunEvent<'_>),
    ) -> Result<Trace, RunError> {
        Ok(answer(self, experiment, images, Keep::Trace, cancel, on)?.trace)
    }

    /// Only the words that experiments about the same images are answered with, greedily, in order; `on_reply`
    /// hears of every one done. The tokens that uncut prompts begin with alike, the images' among them, go
    /// through the decoder once. Under knockouts every question runs alone: a cut may reach into the common
    /// beginning.
    ///
    /// # Errors
    /// [`RunError`], of the first that fails.
    pub fn replies(
        &self,
        experiments: &[Experiment],
        images: &[&Seen],
        cancel: &Cancel,
        on_reply: &mut dyn FnMut(),
    ) -> Result<Vec<Reply>, RunError> {
        let prompts: Vec<Prompt> =
            experiments.iter().map(|e| self.prompt(&e.turns, images)).collect::<Result<_, _>>()?;
        let Some(first) = prompts.first() else { return Ok(Vec::new()) };
        let uncut = experiments.iter().all(|e| e.intervention.is_empty());
        let shared = if uncut { shared_prefix(&prompts) } else { 0 };
        let mut stem = Decoding::new(&self.vlm, &[], self.info.context, cancel)?;
        if shared > 0 {
            stem.logits(self.rows(first, images).part(0..shared))?;
        }
        let mut replies = Vec::with_capacity(experiments.len());
        for (experiment, prompt) in experiments.iter().zip(&prompts) {
            let rest = self.rows(prompt, images).part(shared..prompt.len());
            let max_new = experiment.max_new.min(self.info.context - prompt.len());
            let asked = Asked { engine: self, prompt, images, max_new, seed: experiment.seed, cancel };
            let change = asked.change(&experiment.intervention, None)?;
            let decoding = match change.cuts.is_empty() {
                true => stem.fork(),
                false => Decoding::new(&self.vlm, &change.cuts, prompt.len() + max_new - 1, cancel)?,
            };
            let rest = change.overwrite(rest, shared, &visual(&prompt.tokens));
            replies.push(reply(self, decoding, rest, max_new)?);
            on_reply();
        }
        Ok(replies)
    }

    /// What an experiment on a prompt of so many positions holds at most.
    pub fn memory(&self, experiment: &Experiment, images: &[&Seen], n_prompt: usize, held: Held) -> Memory {
        Sizes::of(self, images, n_prompt).memory(experiment, held)
    }

    /// Refuses an experiment that would hold more than its limit, before anything runs. Every run does so by
    /// itself; a caller that adds to it asks here.
    ///
    /// # Errors
    /// [`RunError::Memory`].
    pub fn allow(
        &self,
        experiment: &Experiment,
        images: &[&Seen],
        n_prompt: usize,
        held: Held,
    ) -> Result<(), RunError> {
        Sizes::of(self, images, n_prompt).allow(experiment, held)
    }
}

/// How many first tokens all prompts have in common; one less than the shortest at most, since the
/// last row predicts the answer.
fn shared_prefix(prompts: &[Prompt]) -> usize {
    let Some((first, others)) = prompts.split_first() else { return 0 };
    let alike = |other: &Prompt| {
        first.tokens.iter().zip(&other.tokens).take_while(|(a, b)| a.id == b.id).count().min(other.len() - 1)
    };
    others.iter().map(alike).min().unwrap_or(first.len() - 1).min(first.len() - 1)
}
