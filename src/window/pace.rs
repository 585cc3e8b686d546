//! How often the window is painted while a model streams.
//!
//! A software adapter paints with the very cores that the model runs on: there, what merely goes on is shown now
//! and then, and what has come to an end at once. Knows time; not what is painted.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use eframe::egui_wgpu::RenderState;
use egui::Context;

/// Between two paintings of what goes on, on a software adapter.
const SOFTWARE: Duration = Duration::from_millis(600);

/// Likewise on any other: more would only be work.
const HARDWARE: Duration = Duration::from_millis(16);

/// See the module.
#[derive(Debug)]
pub struct Pace {
    between: Duration,
    /// When something streaming was last let through.
    last: Mutex<Option<Instant>>,
}

impl Pace {
    /// That of an adapter.
    pub fn of(render: Option<&RenderState>) -> Self {
        let software =
            render.is_some_and(|render| render.adapter.get_info().device_type == wgpu::DeviceType::Cpu);
        Pace { between: if software { SOFTWARE } else { HARDWARE }, last: Mutex::default() }
    }

    /// The time between two paintings of what goes on.
    pub fn between(&self) -> Duration {
        self.between
    }

    /// Sets the window up: where painting is dear, nothing fades in or out.
    pub fn install(&self, ctx: &Context) {
        if self.between == SOFTWARE {
            ctx.all_styles_mut(|style| style.animation_time = 0.0);
        }
    }

    /// Asks for a painting: now, or, of something that streams, when it is due.
    pub fn wake(&self, ctx: &Context, streams: bool) {
        match self.due(streams, Instant::now()) {
            Duration::ZERO => ctx.request_repaint(),
            later => ctx.request_repaint_after(later),
        }
    }

    fn due(&self, streams: bool, now: Instant) -> Duration {
        if !streams {
            return Duration::ZERO;
        }
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let since = last.map_or(self.between, |last| now.saturating_duration_since(last));
        if since >= self.between {
            *last = Some(now);
        }
        self.between.saturating_sub(since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_streams_is_painted_at_a_bounded_rate_and_what_ends_at_once() {
        let pace = Pace { between: SOFTWARE, last: Mutex::default() };
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        assert_eq!(pace.due(true, at(0)), Duration::ZERO, "the first at once");
        assert_eq!(pace.due(true, at(100)), SOFTWARE - Duration::from_millis(100));
        assert_eq!(
            pace.due(true, at(150)),
            SOFTWARE - Duration::from_millis(150),
            "the same moment as before"
        );
        assert_eq!(pace.due(false, at(200)), Duration::ZERO);
        assert_eq!(pace.due(true, at(600)), Duration::ZERO);
        assert_eq!(pace.due(true, at(601)), SOFTWARE - Duration::from_millis(1));
    }
}
