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

/// Between two paintings of what goes on, on a software adapter: for every million pixels of the window.
const SOFTWARE: Duration = Duration::from_millis(700);

/// Likewise on any other, whatever the size: more would only be work.
const HARDWARE: Duration = Duration::from_millis(16);

/// See the module.
#[derive(Debug)]
pub struct Pace {
    software: bool,
    /// When something streaming was last let through.
    last: Mutex<Option<Instant>>,
}

impl Pace {
    /// That of an adapter.
    pub fn of(render: Option<&RenderState>) -> Self {
        let software =
            render.is_some_and(|render| render.adapter.get_info().device_type == wgpu::DeviceType::Cpu);
        Pace { software, last: Mutex::default() }
    }

    /// Whether painting takes the model's cores: then nothing is painted for its looks alone.
    pub fn is_dear(&self) -> bool {
        self.software
    }

    /// Sets the window up: where painting is dear, nothing fades in or out.
    pub fn install(&self, ctx: &Context) {
        if self.software {
            ctx.all_styles_mut(|style| style.animation_time = 0.0);
        }
    }

    /// Asks for a painting: now, or, of something that streams, when it is due.
    pub fn wake(&self, ctx: &Context, streams: bool) {
        let size = ctx.content_rect().size() * ctx.pixels_per_point();
        let later = self.due(streams, self.between(size.x * size.y), Instant::now());
        // egui paints twice when asked without any delay.
        ctx.request_repaint_after(later.max(Duration::from_millis(1)));
    }

    /// The time between two paintings of what goes on, in a window of so many pixels.
    fn between(&self, pixels: f32) -> Duration {
        let millis = SOFTWARE.as_millis() as f32 * (pixels / 1e6).clamp(0.5, 8.0);
        if self.software { Duration::from_millis(millis as u64) } else { HARDWARE }
    }

    fn due(&self, streams: bool, between: Duration, now: Instant) -> Duration {
        if !streams {
            return Duration::ZERO;
        }
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let since = last.map_or(between, |last| now.saturating_duration_since(last));
        if since >= between {
            *last = Some(now);
        }
        between.saturating_sub(since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_streams_is_painted_at_a_bounded_rate_and_what_ends_at_once() {
        let pace = Pace { software: true, last: Mutex::default() };
        let (start, between) = (Instant::now(), pace.between(1e6));
        assert_eq!(between, SOFTWARE);
        let at = |ms: u64| start + Duration::from_millis(ms);
        assert_eq!(pace.due(true, between, at(0)), Duration::ZERO, "the first at once");
        assert_eq!(pace.due(true, between, at(100)), SOFTWARE - Duration::from_millis(100));
        assert_eq!(
            pace.due(true, between, at(150)),
            SOFTWARE - Duration::from_millis(150),
            "the same moment"
        );
        assert_eq!(pace.due(false, between, at(200)), Duration::ZERO);
        assert_eq!(pace.due(true, between, at(700)), Duration::ZERO);
        assert_eq!(pace.due(true, between, at(701)), SOFTWARE - Duration::from_millis(1));
    }

    #[test]
    fn a_larger_window_is_painted_less_often_by_software_only() {
        let pace = |software| Pace { software, last: Mutex::default() };
        assert!(pace(true).between(3.7e6) > pace(true).between(1.3e6));
        assert_eq!(pace(false).between(3.7e6), HARDWARE);
    }
}
