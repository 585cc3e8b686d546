//! Everything the window knows: it changes by [`Event`]s of the worker and commands of the user (`act`), and
//! says what to ask of the worker.
//!
//! An event reports and never commands: what is asked for follows from what the user wants and from what is
//! there. No drawing, no channels, no threads: the tests drive it as the window does.

use std::path::{Path, PathBuf};

use crate::{
    progress::Progress,
    spec::{
        picture::ImageSource,
        turn::{Turn, answered},
    },
    trace::{
        run::{ModelInfo, Stop},
        tokens::written,
    },
    ui::store::{
        arriving::{Arriving, Before},
        cut_list::CutSettings,
        cuts::Cuts,
        elsewhere::Elsewhere,
        first_look::{FirstLook, first_look},
        images::{Held, Images},
        models::Models,
        run::{Run, ScoredToken},
        runs::Runs,
        saved::SavedRun,
        selection::{BASELINE, CUT, Selection},
        settings::{Asking, MapSettings, Running, Tint, Tool},
        setup::{Setup, Trail},
        studies::Studies,
        subject::{Difference, Kept, Subject},
        surveys::Surveys,
        talk::Talk,
        undo::History,
        wanted::{Arrival, Wanted},
    },
    worker::protocol::{Event, ImageView, ModelView, Request, RunId, Slot},
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
    /// What was found out about them.
    pub studies: Studies,
    /// The study over images.
    pub surveys: Surveys,
    /// What is looked at.
    pub selection: Selection,
    /// How maps are drawn.
    pub map: MapSettings,
    /// What is done to the model.
    pub cut: CutSettings,
    /// The question.
    pub prompt: String,
    /// The conversation around it.
    pub talk: Talk,
    /// How answers are chosen.
    pub asking: Asking,
    /// What tints words.
    pub tint: Tint,
    /// What the pointer does on images.
    pub tool: Tool,
    /// The last error.
    pub error: Option<String>,
    /// Things to know that are no errors, oldest first: the window shows each once, and takes it.
    pub notices: Vec<String>,
    /// What the worker is doing.
    pub progress: Option<Progress>,
    /// Sample scenes on offer.
    pub scenes: Vec<PathBuf>,
    /// Sample questions on offer.
    pub questions: Vec<String>,
    /// Images and models that were opened before, the last one first.
    pub recent: Vec<PathBuf>,
    /// Models to choose from, and the one that is being fetched.
    pub models: Models,
    /// Where and how models run.
    pub running: Running,
    /// Where else models are to run; `None`: on this machine.
    pub elsewhere: Option<Elsewhere>,
    /// The model that was asked for last.
    pub(super) folder: Option<PathBuf>,
    /// The model that is on its way.
    pub(super) arriving: Option<Arriving>,
    /// What is so again where what is on its way never comes.
    pub(super) before: Option<Before>,
    /// What of the model of a saved run is known, while there is no model.
    pub(super) saved_model: Option<ModelInfo>,
    pub(super) cuts: Cuts,
    pub(super) wanted: Wanted,
    pub(super) history: History,
    pub(super) trail: Trail,
    pub(super) kept: Kept,
    /// Lines of the list that were in force before all were put out of it.
    pub(super) put_out: Vec<usize>,
    /// The user stopped what went on, and nothing was asked for since.
    pub(super) cancelled: bool,
    /// The next answer is the first about its image, and nothing was selected since: where to look is open.
    pub(super) at_first_sight: bool,
    /// The user chose a layer.
    pub(super) layer_chosen: bool,
}

impl Store {
    /// A window with nothing in it yet.
    pub fn new(prompt: String, max_new: usize) -> Self {
        let asking = Asking { max_new, ..Asking::default() };
        Store { prompt, asking, ..Default::default() }
    }

    /// What is known of the model: of the loaded one, or of that of a saved run.
    pub fn model_info(&self) -> Option<&ModelInfo> {
        self.model.as_ref().map(|model| &model.info).or(self.saved_model.as_ref())
    }

    /// Decoder layers of the model; 0 before there is one.
    pub fn n_layers(&self) -> usize {
        self.model_info().map_or(0, |info| info.n_layers)
    }

    /// Query heads a layer; 0 before there is a model.
    pub fn n_heads(&self) -> usize {
        self.model_info().map_or(0, |info| info.n_heads)
    }

    /// The image that is asked about.
    pub fn image(&self) -> Option<&ImageView> {
        self.images.current()
    }

    /// The image of a run, with its number; the one that is asked about where there is no run.
    pub fn image_of(&self, slot: Slot) -> Option<&Held> {
        match self.runs.lane(slot).view().and_then(|run| run.experiment.images.first()) {
            Some(picture) => self.images.get(&picture.image),
            None => self.images.last(),
        }
    }

    /// The image of the run on show.
    pub fn image_shown(&self) -> Option<&Held> {
        self.image_of(self.selection.subject().0)
    }

    /// What maps and charts show; `None` where there is nothing yet.
    pub fn subject(&self) -> Option<Subject<'_>> {
        self.kept.subject(&self.runs, &self.selection)
    }

    /// How that differs from the run that is compared with; `None` where none is, or the two do not fit.
    pub fn difference(&self) -> Option<&Difference> {
        self.kept.difference()
    }

    /// The uncut run that a slot's run is compared with; the run itself where it is uncut.
    pub fn base_of(&self, slot: Slot) -> Option<&Run> {
        let run = self.runs.lane(slot).view()?;
        match run.base {
            Some(base) => self.runs.get(base),
            None => Some(run),
        }
    }

    /// Attention sinks of a run's uncut answer, by number among the visual tokens; `None` where they are not known.
    pub fn sinks(&self, slot: Slot) -> Option<&[usize]> {
        self.base_of(slot)?.end.as_ref()?.sinks.as_deref()
    }

    /// What the cut on show did to each token of the uncut answer; empty where there is none. `slot`: that of the
    /// uncut run or of the cut one.
    pub fn effects_on(&self, slot: Slot) -> &[ScoredToken] {
        let lane = self.runs.lane(slot);
        let Some(run) = lane.running.or(lane.view()) else { return &[] };
        match run.base {
            Some(_) => &run.scored,
            None => {
                let cut = self.runs.cut();
                // While a cut is scored anew, the scores of the one before stand.
                let scored = [cut.running, cut.done()].into_iter().flatten();
                let of_this = scored.filter(|cut| cut.base == Some(run.id) && !cut.scored.is_empty());
                of_this.map(|cut| &cut.scored[..]).next().unwrap_or_default()
            }
        }
    }

    /// What a run says, as text: what its answer was given to begin with included; `None` before its first word.
    pub fn said_by(&self, slot: Slot) -> Option<String> {
        let run = self.runs.lane(slot).view().filter(|run| run.has_answer())?;
        answered(&run.experiment.turns, &written(&run.answer)).last().map(Turn::text)
    }

    /// The conversation after the uncut answer on show, under the system text that is set up: it is that of the whole
    /// conversation; `None` while there is no answer that came to its end.
    pub fn answered(&self) -> Option<Talk> {
        let run = self.runs.baseline().complete()?;
        run.end.as_ref().filter(|end| end.stop != Stop::Cancelled)?;
        let said = Talk::after(&run.experiment.turns, &written(&run.answer));
        let Talk { system, prefix, .. } = self.talk.clone();
        // What this answer began with is part of it by now; another beginning is the next one's.
        let prefix = if prefix == run.setup.talk.prefix { String::new() } else { prefix };
        Some(Talk { system, prefix, ..said })
    }

    /// Whether there is something to stop, a study over images aside: it goes on through all that is asked.
    pub fn busy(&self) -> bool {
        self.asking_goes_on() || self.studies.running().next().is_some()
    }

    /// Whether something is loaded or answered: studies wait for both.
    pub fn asking_goes_on(&self) -> bool {
        self.wanted.loading() || self.progress.is_some() || self.runs.busy()
    }

    /// Whether a model is on its way.
    pub fn awaits_model(&self) -> bool {
        self.arriving.is_some()
    }

    /// Whether the last thing that happened is that the user stopped what went on.
    pub fn cancelled(&self) -> bool {
        self.cancelled && !self.busy()
    }

    /// What is wrong with the cut: a line of the list, or what the worker says of all.
    pub fn cut_error(&self) -> Option<&str> {
        self.cuts.first_error().or_else(|| self.runs.cut().refusal())
    }

    /// What is wrong with one line of the list.
    pub fn line_error(&self, line: usize) -> Option<&str> {
        self.cuts.error(line)
    }

    /// Whether a knockout that is in force cuts a layer; none is where the worker refused what is set up.
    pub fn cuts_layer(&self, layer: usize) -> bool {
        let refused = self.runs.cut().refusal().is_some();
        let knockouts = &self.cuts.intervention().knockouts;
        !refused && knockouts.iter().any(|knockout| knockout.layers.contains(layer))
    }

    /// Whether there is a state to go back, or on, to.
    pub fn can_go(&self, back: bool) -> bool {
        self.trail.can_go(back)
    }

    /// What would be taken back, in a few words.
    pub fn last_change(&self) -> Option<String> {
        self.history.last()
    }

    /// Whether there is something to take back, or to make again.
    pub fn can_undo(&self, back: bool) -> bool {
        self.history.can(back)
    }

    /// For each token of the uncut answer and of the one under the cut, whether the other lacks it; `None`
    /// unless both are complete.
    pub fn changed(&self) -> Option<(Vec<bool>, Vec<bool>)> {
        self.changed_by(CUT)
    }

    /// The same of any run under a cut.
    pub fn changed_by(&self, slot: Slot) -> Option<(Vec<bool>, Vec<bool>)> {
        let cut = self.runs.lane(slot).complete()?;
        let base = self.runs.get(cut.base?).filter(|base| base.end.is_some())?;
        let live = self.runs.baseline();
        if slot == CUT && live.complete().is_none_or(|live| live.id != base.id) {
            return None;
        }
        let (kept, kept_cut) = cut.end.as_ref()?.common.as_ref()?;
        let changed = |kept: &[bool]| kept.iter().map(|kept| !kept).collect();
        Some((changed(kept), changed(kept_cut)))
    }

    /// The present state.
    pub fn setup(&self) -> Setup {
        Setup {
            image: self.images.source().cloned(),
            prompt: self.prompt.trim().to_string(),
            talk: self.talk.clone(),
            asking: self.asking,
            cut: self.cut.clone(),
        }
    }

    /// Takes one event of the worker. Returns what is due now.
    pub fn event(&mut self, event: Event) -> Vec<Request> {
        let requests = self.take(event);
        self.kept.follow(&self.runs, &self.selection);
        requests
    }

    fn take(&mut self, event: Event) -> Vec<Request> {
        match event {
            Event::Progress(progress) => self.progress = Some(progress),
            Event::Idle => self.progress = None,
            Event::Connection(connection) => {
                if let Some(elsewhere) = &mut self.elsewhere {
                    elsewhere.connection = Some(connection);
                }
            }
            Event::Model(model) => return self.take_model(model),
            Event::Image(view) => return self.take_image(view),
            Event::Started { id, prompt, unknown_words } => self.runs.started(id, prompt, unknown_words),
            Event::Scoring { id, start } => self.runs.scoring(id, start),
            Event::Scored { id, token, effect, row } => self.runs.scored(id, token, effect, row),
            Event::Token { id, token, row } => self.runs.token(id, token, row),
            Event::Done { id, end } => match self.runs.finished(id, *end, &self.setup()) {
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
            Event::Failed { id, error } => {
                let back = self.take_failure(id, error);
                return back.into_iter().chain(self.due()).collect();
            }
            Event::Found { id, finding, steps } => self.studies.found(id, finding, steps),
            Event::Studied { id, whole } => {
                self.studies.ended(id, whole);
                self.surveys.dropped(id);
            }
            Event::SurveyBegun { id, images } => self.surveys.begun(id, images),
            Event::SurveyImage { id, measured } => self.surveys.measured(id, *measured),
            Event::SurveyDone { id, header } => self.surveys.done(id, header),
            Event::Marked { source, object } => {
                self.notices.push(format!("{}: {} patches are marked.", object.name, object.patches.len()));
                self.images.mark(&source, object);
            }
        }
        self.due()
    }

    fn take_model(&mut self, model: ModelView) -> Vec<Request> {
        let info = &model.info;
        let another = self.model_info().is_none_or(|known| known.sha256 != info.sha256);
        let alike = |held: &&ModelView| held.info == *info && held.dtype == model.dtype;
        match self.model.as_ref().filter(alike).map(|held| held.device.clone()) {
            Some(device) => {
                let runs = self.runs.all_named().filter(|_| device != model.device);
                let told =
                    |runs| format!("{runs} stay: they ran on {device}, the next runs on {}.", model.device);
                self.notices.extend(runs.map(told));
                self.runs.turn_to();
                self.studies.give_up();
            }
            None => self.forget_runs(),
        }
        self.history.clear();
        self.selection.fit(info.n_layers, info.n_heads);
        if self.n_layers() != info.n_layers {
            self.layer_chosen = false;
            self.selection.layer = info.n_layers / 2;
        }
        if another {
            self.images.forget_others();
        }
        self.saved_model = None;
        self.arrived(&model.folder);
        self.model = Some(model);
        self.progress = None;
        let again = self.wanted.model(self.image().is_some());
        again.into_iter().chain(self.due()).collect()
    }

    /// Forgets what another model, or this one in another precision, said; and says so.
    fn forget_runs(&mut self) {
        if let Some((runs, model)) = self.runs.all_named().zip(self.model_info()) {
            let name = &model.name;
            self.notices.push(format!(
                "{runs} belonged to {name} as it was loaded until now. To keep runs, save the session before that changes."
            ));
        }
        self.runs.clear();
        self.studies.clear();
    }

    /// A model is there: nothing that was before it comes back.
    fn arrived(&mut self, folder: &Path) {
        let Some(arriving) = self.arriving.take_if(|arriving| arriving.folder == *folder) else {
            // Another one is on its way; what was said was not to this one.
            self.before.iter_mut().for_each(|before| before.earlier.clear());
            return;
        };
        self.before = None;
        if arriving.opened {
            self.note_path(arriving.folder);
        }
    }

    /// What was asked for does not come: all is as it was before. Returns what the worker has to know of it.
    pub(super) fn give_back(&mut self) -> Option<Request> {
        self.arriving = None;
        let Before { elsewhere, earlier } = self.before.take()?;
        // Without a model there is nothing to go back to.
        let model = self.model.as_ref()?;
        self.folder = Some(model.folder.clone());
        if self.talk.earlier.is_empty() {
            self.talk.earlier = earlier;
        }
        let address = |elsewhere: &Option<Elsewhere>| elsewhere.as_ref().map(|far| far.address.clone());
        let moved = address(&self.elsewhere) != address(&elsewhere);
        self.elsewhere = elsewhere;
        moved.then(|| Request::Place(address(&self.elsewhere)))
    }

    /// What a window opens by itself is not among what was opened before.
    pub fn opened_by_itself(&mut self, recent: Vec<PathBuf>) {
        self.recent = recent;
        self.arriving.iter_mut().for_each(|arriving| arriving.opened = false);
    }

    fn take_image(&mut self, view: ImageView) -> Vec<Request> {
        match self.wanted.image(&view.source, self.images.source()) {
            Arrival::Unwanted => return Vec::new(),
            Arrival::Told => self.images.put(view),
            Arrival::Wanted => {
                self.runs.turn_to();
                self.selection.forget();
                self.cut.set_painted(Default::default());
                self.at_first_sight = true;
                self.images.put(view);
                self.error = None;
                // What was said was about the image before.
                self.before.take_if(|_| self.arriving.is_none());
                self.before.iter_mut().for_each(|before| before.earlier.clear());
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

    fn take_failure(&mut self, id: Option<RunId>, error: String) -> Option<Request> {
        let Some(id) = id else {
            self.wanted.failed();
            self.progress = None;
            // Without a model nothing else can succeed: why there is none is what to know.
            match self.model {
                Some(_) => self.error = Some(error),
                None => _ = self.error.get_or_insert(error),
            }
            return self.give_back();
        };
        if self.studies.failed(id, &error) || self.surveys.failed(id, &error) {
            return None;
        }
        match self.runs.failed(id, error.clone()) {
            Some(BASELINE) => (self.error, self.progress) = (Some(error), None),
            // Shown beside the cuts.
            Some(_) => self.progress = None,
            None => {}
        }
        None
    }

    /// Takes up a run that was saved: it can be looked at without its model.
    pub fn take_saved(&mut self, saved: SavedRun) {
        let SavedRun { model, image, uncut, cut } = saved;
        let known = self.model_info().is_some_and(|info| info.sha256 == model.sha256);
        if !known {
            self.forget_runs();
            self.model = None;
            self.saved_model = Some(model.clone());
        }
        self.studies.clear();
        self.history.clear();
        self.selection.fit(model.n_layers, model.n_heads);
        self.selection.forget();
        // What this model's own eyes saw says more than a saved run can.
        let seen = self.images.get(&image.source).is_some_and(|held| held.view.geometry == image.geometry);
        match known && seen {
            true => _ = self.images.show(&image.source),
            false => self.images.put(image),
        }
        let setup = cut.as_ref().unwrap_or(&uncut).setup.clone();
        self.adopt(&setup);
        self.runs.take_saved(*uncut, cut.map(|cut| *cut));
        self.error = None;
        self.kept.follow(&self.runs, &self.selection);
    }

    /// Takes over what a state says, but for its image.
    pub(super) fn adopt(&mut self, setup: &Setup) {
        self.prompt.clone_from(&setup.prompt);
        self.talk.clone_from(&setup.talk);
        self.before.iter_mut().for_each(|before| before.earlier.clear());
        self.asking = setup.asking;
        self.cut = setup.cut.clone();
    }

    /// Asks the question about the image on show.
    pub(super) fn ask(&mut self) -> Vec<Request> {
        let (Some(_), Some(image)) = (&self.model, self.images.source()) else { return Vec::new() };
        let experiment = self.asking.experiment(image.clone(), &self.talk, self.prompt.trim());
        self.error = None;
        self.tell_of_system_text();
        self.selection.another_answer();
        let setup = self.setup();
        self.trail.note(setup.clone());
        self.runs.ask(experiment, setup)
    }

    /// The state that a run under the cut is asked in: that of the uncut run, whatever is set up for the next question.
    fn setup_under_cut(&self) -> Setup {
        let uncut = self.runs.baseline().complete().map(|run| run.setup.clone());
        Setup { cut: self.cut.clone(), ..uncut.unwrap_or_else(|| self.setup()) }
    }

    /// Says that a conversation goes on under another system text than it was begun with.
    fn tell_of_system_text(&mut self) {
        let (system, earlier) = (self.talk.system.trim(), &self.talk.earlier);
        let begun = self.runs.baseline().view().filter(|_| !earlier.is_empty());
        if begun.is_some_and(|run| run.setup.talk.system.trim() != system) {
            let text = "The system text was changed: it begins the conversation anew. The model reads the answers \
                        before as if they were said under it.";
            self.notices.push(text.to_string());
        }
    }

    /// Brings the cut in force up to date with what is set up.
    pub(super) fn due(&mut self) -> Vec<Request> {
        let uncut = self.runs.baseline().view().filter(|run| !run.prompt.is_empty());
        self.cuts.follow(&self.cut, self.model.as_ref().map(|m| &m.info), uncut);
        if self.model.is_none() {
            return Vec::new();
        }
        let stop = self.runs.want(self.cuts.intervention(), self.cut.control);
        if self.cuts.intervention().is_empty() && self.selection.slot == CUT {
            self.selection.slot = BASELINE;
        }
        if self.selection.against.is_some_and(|slot| !self.runs.has(slot)) {
            self.selection.against = None;
        }
        if self.selection.slot > CUT && !self.runs.has(self.selection.slot) {
            self.selection.slot = BASELINE;
            self.selection.another_answer();
        }
        // Whatever is on its way stops every run, and makes another due.
        let setup = self.setup_under_cut();
        let next = if self.wanted.loading() { None } else { self.runs.next_request(&setup) };
        stop.into_iter().chain(next).collect()
    }

    pub(super) fn clamp_pins(&mut self) {
        let len = self.runs.lane(self.selection.slot).tokens().len();
        self.selection.tokens.retain(|&at| at < len);
        self.selection.anchor = self.selection.anchor.filter(|&at| at < len);
    }

    /// Notes a path that was opened.
    pub(super) fn note_recent(&mut self, source: &ImageSource) {
        if let Some(path) = source.file() {
            self.note_path(path.to_path_buf());
        }
    }

    /// Notes a path of anything else that was opened.
    pub fn note_path(&mut self, path: PathBuf) {
        /// Paths that are remembered.
        const RECENT: usize = 12;
        self.recent.retain(|other| *other != path);
        self.recent.insert(0, path);
        self.recent.truncate(RECENT);
    }
}
