//! What several of these tests stand on: a store that was told of runs, and the adapter to draw with.

use std::{
    io::Write as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use eframe::egui_wgpu::{RenderState, RendererOptions, WgpuSetup};
use sightline::{
    device::{open as device, shared},
    spec::experiment::Experiment,
    trace::run::Stop,
    ui::store::{command::Command, cut_list::Change, store::Store},
    worker::protocol::{Event, Request, RunId},
};

use crate::made_up;

pub const QUESTION: &str = "what is in the picture ?";

/// A store whose user opened a model and an image, and the run that this asks for.
pub fn opened() -> (Store, RunId, Experiment) {
    let mut store = Store::new(QUESTION.to_string(), 32);
    store.apply(Command::LoadModel("model".into()));
    store.apply(Command::OpenImage(made_up::source()));
    assert!(store.event(Event::Model(made_up::model())).is_empty());
    let (id, experiment) = only_run(store.event(Event::Image(made_up::image(made_up::source()))));
    (store, id, experiment)
}

/// A store whose uncut answer is complete.
pub fn answered() -> Store {
    let (mut store, id, experiment) = opened();
    assert!(tell(&mut store, made_up::whole(id, &experiment)).is_empty());
    store
}

/// Tells all of it. Returns what the last asked for; nothing before may ask for anything.
pub fn tell(store: &mut Store, events: Vec<Event>) -> Vec<Request> {
    let mut requests = Vec::new();
    for event in events {
        assert!(requests.is_empty(), "{requests:?} before {event:?}");
        requests = store.event(event);
    }
    requests
}

pub fn only_run(requests: Vec<Request>) -> (RunId, Experiment) {
    match <[Request; 1]>::try_from(requests) {
        Ok([Request::Run { id, experiment, .. }]) => (id, *experiment),
        other => panic!("expected one run, got {other:?}"),
    }
}

pub fn cut(range: (usize, usize)) -> Command {
    Command::CutLayers(range.0, range.1)
}

pub fn typed(text: &str) -> Command {
    Command::AddCut(Change::parse(text).expect("a cut"))
}

/// A run ends because it was cancelled.
pub fn cancelled(id: RunId, experiment: &Experiment) -> Event {
    Event::Done { id, end: Box::new(made_up::end(experiment, Stop::Cancelled)) }
}

/// A worker that answers at once.
pub fn serve(store: &mut Store, requests: Vec<Request>) {
    for request in requests {
        if let Request::Run { id, experiment, .. } = request {
            for event in made_up::whole(id, &experiment) {
                let more = store.event(event);
                serve(store, more);
            }
        }
    }
}

/// One at a time: software adapters are slow enough alone.
pub fn adapter() -> Option<(MutexGuard<'static, ()>, RenderState)> {
    static ONE: Mutex<()> = Mutex::new(());
    let guard = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    if device::adapters().is_empty() {
        assert!(std::env::var("SIGHTLINE_REQUIRE_GPU").as_deref() != Ok("1"), "no graphics adapter");
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("test");
        // Past libtest's capture: a skipped test must not look like a passed one.
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED {name}: no graphics adapter (SIGHTLINE_REQUIRE_GPU is not 1)"
        );
        return None;
    }
    let mut setup = shared::wgpu_setup();
    if let WgpuSetup::CreateNew(new) = &mut setup {
        // Software where there is one: the committed pictures were made with it.
        new.native_adapter_selector = Some(Arc::new(|adapters, _| {
            let software = |a: &&wgpu::Adapter| a.get_info().device_type == wgpu::DeviceType::Cpu;
            let best = adapters.iter().find(software).or(adapters.first());
            best.cloned().ok_or_else(|| "no adapter".to_string())
        }));
    }
    Some((guard, egui_kittest::wgpu::create_render_state(setup, RendererOptions::PREDICTABLE)))
}
