//! Everything the window knows: it changes by [`Event`]s of the worker and [`Command`]s of the user, and
//! says what to ask of the worker.
//!
//! An event reports and never commands: what is asked for follows from what the user wants and from what is
//! there. No drawing, no channels, no threads: the tests drive it as the window does.

use std::path::PathBuf;

use crate::{
    progress::Progress,
    spec::experiment::Experiment,
    ui::store::{
        command::Command,
        cuts::Cuts,
        first_look::{FirstLook, first_look},
        images::Images,
        runs::Runs,
        selection::{BASELINE, CUT, Selection},
        settings::{CutSettings, MapSettings},
        undo::{Changeable, History},
        wanted::{Arrival, Wanted},
    },
    worker::protocol::{Event, ImageView, ModelView, Request, RunId},
};

/// See the module.
#[derive(Debug, Default)]
pub struct Store {
    /// The model in use.
    pub model: Option<ModelView>,
    /// The images in use.
    pub images: Images,
    /// All runs.
    pub runs: Runs,
    /// What is looked at.
    pub selection: Selection,
    /// How maps are drawn.
    pub map: MapSettings,
    /// Knockouts set up.
    pub cut: CutSettings,
    /// The question.
    pub prompt: String,
    /// Longest answer.
    pub max_new: usize,
    /// The last error.
    pub error: Option<String>,
    /// Something to know that is no error.
    pub notice: Option<String>,
    /// What the worker is doing.
    pub progress: Option<Progress>,
    /// Sample scenes on offer.
    pub scenes: Vec<PathBuf>,
    /// Sample questions on offer.
    pub questions: Vec<String>,
    cuts: Cuts,
    wanted: Wanted,
    history: History,
    /// The user stopped what went on, and nothing was asked for since.
    cancelled: bool,
    /// The next answer is the first about its image, and nothing was selected since: where to look is open.
    at_first_sight: bool,
    /// The user chose a layer.
    layer_chosen: bool,
}

impl Store {
    /// A window with nothing in it yet.
    pub fn new(prompt: String, max_new: usize) -> Self {
        Store { prompt, max_new, ..Default::default() }
    }

    /// Decoder layers of the model; 0 before there is one.
    pub fn n_layers(&self) -> usize {
        self.model.as_ref().map_or(0, |m| m.info.n_layers)
    }

    /// Query heads a layer; 0 before there is a model.
    pub fn n_heads(&self) -> usize {
        self.model.as_ref().map_or(0, |m| m.info.n_heads)
    }

    /// The image on show.
    pub fn image(&self) -> Option<&ImageView> {
        self.images.current()
    }

    /// Whether there is something to stop.
    pub fn busy(&self) -> bool {
        self.wanted.loading() || self.progress.is_some() || self.runs.busy()
    }

    /// Whether the last thing that happened is that the user stopped what went on.
    pub fn cancelled(&self) -> bool {
        self.cancelled && !self.busy()
    }

    /// What is wrong with the cut: its text, or what the worker says of it.
    pub fn cut_error(&self) -> Option<&str> {
        self.cuts.error().or_else(|| self.runs.cut().refusal())
    }

    /// For each token of the uncut answer and of the one under the cut, whether the other lacks it; `None`
    /// unless both are complete.
    pub fn changed(&self) -> Option<(Vec<bool>, Vec<bool>)> {
        let (uncut, cut) = (self.runs.baseline().complete()?, self.runs.cut().complete()?);
        let (kept, kept_cut) = cut.end.as_ref()?.common.as_ref().filter(|_| cut.base == Some(uncut.id))?;
        let changed = |kept: &[bool]| kept.iter().map(|kept| !kept).collect();
        Some((changed(kept), changed(kept_cut)))
    }

    /// Takes one event of the worker. Returns what is due now.
    pub fn event(&mut self, event: Event) -> Vec<Request> {
        match event {
            Event::Progress(progress) => self.progress = Some(progress),
            Event::Idle => self.progress = None,
            Event::Model(model) => return self.take_model(model),
            Event::Image(view) => return self.take_image(view),
            Event::Started { id, prompt, unknown_words } => self.runs.started(id, prompt, unknown_words),
            Event::Scoring { id, start } => self.runs.scoring(id, start),
            Event::Scored { id, token, effect, row } => self.runs.scored(id, token, effect, row),
            Event::Token { id, token, row } => self.runs.token(id, token, row),
            Event::Done { id, end } => match self.runs.finished(id, *end) {
                Some(BASELINE) => {
                    self.progress = None;
                    self.clamp_pins();
                    self.look_first();
                }
                Some(_) => self.progress = None,
                None => {}
            },
            Event::Stopped { id } => {
                self.progress = None;
                match id {
                    Some(id) => _ = self.runs.stopped(id),
                    None => self.wanted.stopped(),
                }
            }
            Event::Failed { id, error } => self.take_failure(id, error),
        }
        self.due()
    }

    fn take_model(&mut self, model: ModelView) -> Vec<Request> {
        let info = &model.info;
        self.runs.clear();
        self.history.clear();
        self.selection.fit(info.n_layers, info.n_heads);
        if self.n_layers() != info.n_layers {
            self.layer_chosen = false;
            self.selection.layer = info.n_layers / 2;
            self.cut.centre(info.n_layers);
        }
        self.model = Some(model);
        self.progress = None;
        let again = self.wanted.model(self.image().is_some());
        again.into_iter().chain(self.due()).collect()
    }

    fn take_image(&mut self, view: ImageView) -> Vec<Request> {
        match self.wanted.image(&view.source, self.images.source()) {
            Arrival::Unwanted => return Vec::new(),
            Arrival::Told => self.images.put(view),
            Arrival::Wanted => {
                self.runs.clear();
                self.selection.forget();
                self.at_first_sight = true;
                self.images.put(view);
                self.error = None;
                if self.wanted.take_ask() {
                    return self.ask();
                }
            }
        }
        self.due()
    }

    /// Pins a word that names an object, where that is known and the user has selected nothing yet.
    fn look_first(&mut self) {
        if !std::mem::take(&mut self.at_first_sight) || !self.selection.tokens.is_empty() {
            return;
        }
        let objects = self.images.current().and_then(|image| image.objects.as_deref());
        let look =
            self.runs.baseline().complete().zip(objects).and_then(|(run, known)| first_look(run, known));
        if let Some(FirstLook { token, layer }) = look {
            self.selection.pin(BASELINE, token);
            if !self.layer_chosen {
                self.selection.layer = layer;
            }
        }
    }

    fn take_failure(&mut self, id: Option<RunId>, error: String) {
        let Some(id) = id else {
            self.wanted.failed();
            self.progress = None;
            // Without a model nothing else can succeed: why there is none is what to know.
            match self.model {
                Some(_) => self.error = Some(error),
                None => _ = self.error.get_or_insert(error),
            }
            return;
        };
        match self.runs.failed(id, error.clone()) {
            Some(BASELINE) => (self.error, self.progress) = (Some(error), None),
            // Shown beside the knockouts.
            Some(_) => self.progress = None,
            None => {}
        }
    }

    /// Does what was asked for, as far as it concerns the worker or this store. Dialogs, paths and the look
    /// of the window are others' business.
    pub fn apply(&mut self, command: Command) -> Vec<Request> {
        let undoable = command.undoable();
        let before = undoable.then(|| self.changeable());
        let requests = self.change(command);
        if let Some(before) = before {
            let after = self.changeable();
            self.history.note(before, after);
        }
        if requests.iter().any(|request| !matches!(request, Request::Cancel)) {
            self.cancelled = false;
        }
        requests
    }

    /// The pointer let go: the next change of a slider or handle is another step to take back.
    pub fn release(&mut self) {
        self.history.release();
    }

    fn change(&mut self, command: Command) -> Vec<Request> {
        match command {
            Command::Ask(prompt, max_new) => {
                (self.prompt, self.max_new) = (prompt, max_new);
                return self.ask_when_ready();
            }
            Command::AskAgain => return self.ask_when_ready(),
            Command::Cancel => return self.cancel(),
            Command::OpenImage(source) => {
                self.begin_loading();
                self.wanted.open(source.clone());
                return vec![Request::OpenImage(source)];
            }
            Command::LoadModel(path) => {
                self.begin_loading();
                self.wanted.load();
                return vec![Request::LoadModel(path)];
            }
            Command::Undo | Command::Redo => self.step_back_or_forth(command == Command::Undo),
            Command::DismissError => self.error = None,
            Command::DismissNotice => self.notice = None,
            Command::Hover(token) => {
                self.selection.hovered = token;
                return Vec::new();
            }
            other => {
                self.select(&other);
                self.set(other);
            }
        }
        self.due()
    }

    /// Commands that change what is looked at.
    fn select(&mut self, command: &Command) {
        let n_layers = self.n_layers();
        match command {
            Command::Layer(_) | Command::LayerUp | Command::LayerDown => self.layer_chosen = true,
            Command::Pin(..) | Command::Unpin | Command::NextWord | Command::PreviousWord => {
                self.at_first_sight = false;
            }
            _ => {}
        }
        let selection = &mut self.selection;
        match *command {
            Command::Pin(slot, token) => selection.pin(slot, token),
            Command::Unpin => selection.tokens.clear(),
            Command::NextWord | Command::PreviousWord => {
                let by = if *command == Command::NextWord { 1 } else { -1 };
                let len = self.runs.lane(selection.slot).tokens().len();
                selection.step_token(by, len);
                selection.hovered = None;
            }
            Command::Show(slot) if self.runs.has(slot) => selection.slot = slot,
            Command::Layer(layer) => selection.layer = layer.min(n_layers.saturating_sub(1)),
            Command::LayerUp => selection.step_layer(1, n_layers),
            Command::LayerDown => selection.step_layer(-1, n_layers),
            Command::Head(head) => selection.head = head,
            _ => {}
        }
    }

    /// Commands that change settings.
    fn set(&mut self, command: Command) {
        match command {
            Command::Map(settings) => self.map = settings,
            Command::ToggleMap => self.map.visible = !self.map.visible,
            Command::Underlay(underlay) => self.map.underlay = underlay,
            Command::Range(range) => self.map.range = range,
            Command::ToggleTiles => self.map.tiles = !self.map.tiles,
            Command::Colours(colormap) => self.map.colormap = colormap,
            Command::Cut(settings) => self.cut = settings,
            Command::ToggleCut => self.cut.enabled = !self.cut.enabled,
            _ => {}
        }
    }

    fn ask_when_ready(&mut self) -> Vec<Request> {
        self.error = None;
        if self.wanted.loading() {
            self.wanted.ask();
            return Vec::new();
        }
        self.wanted.cancel();
        self.ask()
    }

    fn ask(&mut self) -> Vec<Request> {
        let (Some(_), Some(image)) = (&self.model, self.images.source()) else { return Vec::new() };
        let experiment = Experiment::ask(image.clone(), self.prompt.trim(), self.max_new);
        self.error = None;
        self.selection.another_answer();
        self.runs.ask(experiment)
    }

    fn cancel(&mut self) -> Vec<Request> {
        self.cancelled = self.busy();
        self.wanted.cancel();
        self.progress = None;
        vec![self.runs.cancel()]
    }

    /// What is on its way stops what runs, and what was wrong is about to be something else.
    fn begin_loading(&mut self) {
        self.runs.abandon();
        self.error = None;
    }

    fn step_back_or_forth(&mut self, back: bool) {
        let mut to = self.changeable();
        let changed = if back { self.history.undo(&mut to) } else { self.history.redo(&mut to) };
        if changed {
            let Changeable { slot, tokens, layer, head, map, cut, .. } = to;
            (self.map, self.cut) = (map, cut);
            let selection = &mut self.selection;
            (selection.slot, selection.tokens, selection.layer, selection.head) = (slot, tokens, layer, head);
            self.clamp_pins();
        }
    }

    fn changeable(&self) -> Changeable {
        let Selection { slot, tokens, answer, layer, head, .. } = self.selection.clone();
        Changeable { slot, tokens, answer, layer, head, map: self.map, cut: self.cut.clone() }
    }

    /// Brings the cut in force up to date with what is set up.
    fn due(&mut self) -> Vec<Request> {
        let uncut = self.runs.baseline().view().filter(|run| !run.prompt.is_empty());
        self.cuts.follow(&self.cut, self.model.as_ref().map(|m| &m.info), uncut);
        let stop = self.runs.want(CUT, self.cuts.knockouts());
        if !self.cut.wants_a_cut() {
            self.selection.slot = BASELINE;
        }
        // Whatever is on its way stops every run, and makes another due.
        let next = if self.wanted.loading() { None } else { self.runs.next_request() };
        stop.into_iter().chain(next).collect()
    }

    fn clamp_pins(&mut self) {
        let len = self.runs.lane(self.selection.slot).tokens().len();
        self.selection.tokens.retain(|&at| at < len);
    }
}
