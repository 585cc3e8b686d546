//! What a run tells, as events for the window.

use crate::{
    device::shared,
    engine::event::{RunEvent, Told},
    progress::Progress,
    worker::protocol::{Event, Row, RunId, ToldRow},
};

/// Hands on what a run tells.
pub fn forward(id: RunId, unknown_words: &[String], event: RunEvent<'_>, tell: &(dyn Fn(Event) + Send)) {
    let told = match event {
        RunEvent::Prompt(prompt) => {
            Event::Started { id, prompt: prompt.tokens.clone(), unknown_words: unknown_words.to_vec() }
        }
        RunEvent::Progress(progress) => Event::Progress(progress),
        RunEvent::Start(start) => Event::Scoring { id, start },
        RunEvent::Scored { token, effect, row } => {
            let row = row.map(|pattern| Row { pattern: pattern.clone(), resident: None });
            Event::Scored { id, token: token.clone(), effect: *effect, row }
        }
        RunEvent::Token { token, row } => {
            let row = match row {
                Told::Nothing => ToldRow::Nothing,
                Told::AsScored => ToldRow::AsScored,
                Told::New { row, resident } => {
                    let resident = resident.and_then(shared::resident);
                    ToldRow::New(Row { pattern: row.clone(), resident })
                }
            };
            Event::Token { id, token: token.clone(), row }
        }
    };
    tell(told);
}

/// Tells of progress a hundred times at most.
#[derive(Default)]
pub struct Rarely {
    told: u64,
}

impl Rarely {
    /// Tells of it, if it is a hundredth further than what was told last.
    pub fn tell(&mut self, progress: Progress, tell: &(dyn Fn(Event) + Send)) {
        let share = progress.done * 100 / progress.total.unwrap_or(1).max(1);
        if share > self.told {
            self.told = share;
            tell(Event::Progress(progress));
        }
    }
}
