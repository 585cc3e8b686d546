//! Everything the window knows: it changes by [`Event`]s of the worker and [`Action`]s of the
//! user, and says what to ask of the worker.
//!
//! No drawing, no channels, no threads: the tests drive it as the window does.

use std::path::PathBuf;

use crate::{spec::{knockout::{Knockout, KnockoutError}, sets::{Patches, Scope}, span::Span}, trace::{palette::Colormap, run::ModelInfo}, ui::store::{runs::Runs, selection::{Selection, Which}}, worker::thread::{Event, ImageSource, ImageView, Request}};

/// What panels ask for.
#[derive(Clone, Debug)]
pub enum Action {
    /// Answer this prompt, in at most so many tokens.
    Ask(String, usize),
    /// Stop what runs.
    Cancel,
    /// Take another image.
    OpenImage(ImageSource),
    /// Load another model folder.
    LoadModel(PathBuf),
    /// A typed path: a folder is a model, a file an image.
    OpenPath(PathBuf),
    /// Show the system's dialog for an image.
    PickImage,
    /// Show the system's dialog for a model folder.
    PickModel,
    /// Preview a token, or none.
    Hover(Option<(Which, usize)>),
    /// Pin a token, or unpin it when it is pinned already.
    Pin(Which, usize),
    /// Unpin.
    Unpin,
    /// Choose the trace on show.
    Show(Which),
    /// Choose a layer.
    Layer(usize),
    /// Choose a head, or the mean.
    Head(Option<usize>),
    /// Change how maps are drawn.
    Map(MapSettings),
    /// Change the knockouts in force.
    Cut(CutSettings),
    /// Close the error banner.
    DismissError,
    /// Close the notice.
    DismissNotice,
}

/// How maps are drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MapSettings {
    /// Colours.
    pub colormap: Colormap,
    /// 0 shows the image alone, 1 the map alone.
    pub opacity: f32,
    /// Low values let more of the image through.
    pub fade: bool,
    /// One colour range for all layers of a token, from 0; else each map's own.
    pub shared_range: bool,
    /// Of a tiled image: the tiles rather than the view of the whole.
    pub tiles: bool,
    /// Whether the map is drawn at all.
    pub visible: bool,
}

impl Default for MapSettings {
    fn default() -> Self {
        MapSettings {
            colormap: Colormap::default(),
            opacity: 0.8,
            fade: true,
            shared_range: true,
            tiles: true,
            visible: true,
        }
    }
}

/// The knockouts that the user has set up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CutSettings {
    /// Whether `answer -> visual` is blocked in `range`.
    pub enabled: bool,
    /// First and last layer blocked.
    pub range: (usize, usize),
    /// Further knockouts, as typed, separated by `;`.
    pub typed: String,
}

impl CutSettings {
    /// The knockout that the two handles stand for.
    pub fn range_knockout(&self) -> Knockout {
        use crate::spec::sets::{Name, Numbers, Places, Set, Term};
        let term = |span| Term { minus: false, name: Name::Span(span), places: Places::All, rings: 0 };
        let whole = |span| Set(vec![term(span)]);
        Knockout {
            query: whole(Span::Answer),
            key: whole(Span::Visual),
            layers: Numbers::range(self.range.0, self.range.1),
            heads: Numbers::All,
        }
    }

    /// The typed knockouts.
    ///
    /// # Errors
    /// The first that cannot be read.
    pub fn typed_knockouts(&self) -> Result<Vec<Knockout>, KnockoutError> {
        self.typed.split(';').filter(|text| !text.trim().is_empty()).map(str::parse).collect()
    }
}

/// The model in use.
#[derive(Clone, Debug)]
pub struct ModelView {
    /// What it is.
    pub info: ModelInfo,
    /// Where it runs.
    pub device: String,
    /// Weights accepted and not used.
    pub unused: Vec<String>,
}

/// See the module.
#[derive(Debug)]
pub struct State {
    /// The model in use.
    pub model: Option<ModelView>,
    /// The image in use.
    pub image: Option<ImageView>,
    /// Grows with every new image, so that textures know when to follow.
    pub image_serial: u64,
    /// Both runs.
    pub runs: Runs,
    /// What is looked at.
    pub selection: Selection,
    /// How maps are drawn.
    pub map: MapSettings,
    /// Knockouts set up.
    pub cut: CutSettings,
    /// What is wrong with the typed knockouts.
    pub cut_error: Option<String>,
    /// The question.
    pub prompt: String,
    /// Longest answer.
    pub max_new: usize,
    /// The last error.
    pub error: Option<String>,
    /// Something to know that is no error.
    pub notice: Option<String>,
    /// What the worker is doing, and the share done.
    pub progress: Option<(String, Option<f32>)>,
    /// Sample scenes on offer.
    pub scenes: Vec<PathBuf>,
    /// Sample questions on offer.
    pub questions: Vec<String>,
    /// A model or image is on its way and will be asked about.
    waiting: bool,
}

impl State {
    /// A window with nothing in it yet.
    pub fn new(prompt: String, max_new: usize) -> Self {
        State {
            model: None,
            image: None,
            image_serial: 0,
            runs: Runs::default(),
            selection: Selection::default(),
            map: MapSettings::default(),
            cut: CutSettings::default(),
            cut_error: None,
            prompt,
            max_new,
            error: None,
            notice: None,
            progress: None,
            scenes: Vec::new(),
            questions: Vec::new(),
            waiting: false,
        }
    }

    /// Decoder layers of the model; 0 before there is one.
    pub fn n_layers(&self) -> usize {
        self.model.as_ref().map_or(0, |m| m.info.n_layers)
    }

    /// Query heads a layer; 0 before there is a model.
    pub fn n_heads(&self) -> usize {
        self.model.as_ref().map_or(0, |m| m.info.n_heads)
    }

    /// Whether the worker has something to do.
    pub fn busy(&self) -> bool {
        self.waiting || self.progress.is_some() || self.runs.busy()
    }

    /// Takes one event of the worker. Returns what to ask of it.
    pub fn event(&mut self, event: Event) -> Vec<Request> {
        match event {
            Event::Progress(what, share) => {
                // The last step of something that nobody waits for any more.
                let over = share == Some(1.0) && !self.waiting && !self.runs.busy();
                self.progress = (!over).then_some((what, share));
            }
            Event::Model { info, device, unused } => {
                self.runs.clear();
                self.selection.fit(info.n_layers, info.n_heads);
                if self.model.as_ref().map(|m| m.info.n_layers) != Some(info.n_layers) {
                    self.selection.layer = info.n_layers / 2;
                    self.cut.range = (info.n_layers / 4, (info.n_layers * 3 / 4).max(1) - 1);
                    if info.n_layers < 4 {
                        self.cut.range = (0, info.n_layers.saturating_sub(1));
                    }
                }
                self.model = Some(ModelView { info, device, unused });
                (self.progress, self.waiting) = (None, false);
            }
            Event::Image(view) => {
                self.runs.clear();
                (self.selection.pinned, self.selection.hovered) = (None, None);
                self.image = Some(view);
                self.image_serial += 1;
                (self.waiting, self.progress, self.error) = (false, None, None);
                return self.ask();
            }
            Event::Started { id, prompt, unknown_words } => {
                self.runs.started(id, prompt, unknown_words);
            }
            Event::Token { id, token, row, resident } => {
                self.runs.token(id, token, row, resident);
            }
            Event::Done { id, trace } => {
                if let Some(which) = self.runs.finished(id, *trace) {
                    self.progress = None;
                    if which == Which::Baseline {
                        self.clamp_pin();
                    }
                }
            }
            Event::Failed { id: Some(id), error } => match self.runs.failed(id, error.clone()) {
                Some(Which::Baseline) => (self.error, self.progress) = (Some(error), None),
                // Shown beside the knockout.
                Some(Which::Cut) => self.progress = None,
                None => {}
            },
            Event::Failed { id: None, error } => {
                (self.error, self.progress, self.waiting) = (Some(error), None, false);
            }
        }
        self.due()
    }

    /// Does what a panel asked for, as far as it concerns the worker or this state. Dialogs are
    /// the window's own business.
    pub fn act(&mut self, action: Action) -> Vec<Request> {
        match action {
            Action::Ask(prompt, max_new) => {
                (self.prompt, self.max_new) = (prompt, max_new);
                return self.ask();
            }
            Action::Cancel => return vec![self.runs.cancel()],
            Action::OpenImage(source) => {
                self.waiting = true;
                return vec![Request::OpenImage(source)];
            }
            Action::LoadModel(path) => {
                self.waiting = true;
                return vec![Request::LoadModel(path)];
            }
            Action::OpenPath(path) => {
                return self.act(match path.is_dir() {
                    true => Action::LoadModel(path),
                    false => Action::OpenImage(ImageSource::Path(path)),
                });
            }
            Action::PickImage | Action::PickModel => {}
            Action::Hover(token) => {
                self.selection.hovered = token;
                return Vec::new();
            }
            Action::Pin(which, token) => {
                let again = self.selection.which == which && self.selection.pinned == Some(token);
                self.selection.which = which;
                self.selection.pinned = (!again).then_some(token);
            }
            Action::Unpin => self.selection.pinned = None,
            Action::Show(which) => self.selection.which = which,
            Action::Layer(layer) => self.selection.layer = layer.min(self.n_layers().saturating_sub(1)),
            Action::Head(head) => self.selection.head = head,
            Action::Map(settings) => self.map = settings,
            Action::Cut(settings) => self.cut = settings,
            Action::DismissError => self.error = None,
            Action::DismissNotice => self.notice = None,
        }
        self.due()
    }

    fn ask(&mut self) -> Vec<Request> {
        if self.model.is_none() || self.image.is_none() {
            return Vec::new();
        }
        self.error = None;
        self.selection.pinned = None;
        self.runs.ask(self.prompt.trim().to_string(), self.max_new)
    }

    /// Brings the cut in force up to date with what is set up.
    fn due(&mut self) -> Vec<Request> {
        match self.knockouts() {
            Ok(knockouts) => {
                self.cut_error = None;
                self.runs.want_cut(knockouts);
            }
            Err(error) => self.cut_error = Some(error.to_string()),
        }
        let wanted = self.cut.enabled || !self.cut.typed.trim().is_empty();
        if !wanted {
            self.selection.which = Which::Baseline;
        }
        self.runs.next_request().into_iter().collect()
    }

    /// The knockouts set up, checked against the model and, once known, the prompt.
    fn knockouts(&self) -> Result<Vec<Knockout>, KnockoutError> {
        let mut all = self.cut.typed_knockouts()?;
        if self.cut.enabled && self.n_layers() > 0 {
            all.insert(0, self.cut.range_knockout());
        }
        if let (Some(model), Some(view)) = (&self.model, self.runs.baseline.view()) {
            let spans: Vec<Span> = view.prompt.iter().map(|t| t.span).collect();
            let scope = Scope {
                spans: &spans,
                patches: &Patches::default(),
                max_new: view.ask.max_new,
                n_layers: model.info.n_layers,
                n_heads: model.info.n_heads,
            };
            // Where patches lie is known on the worker: it checks those that need it.
            let known = |k: &&Knockout| !k.query.needs_patches() && !k.key.needs_patches();
            all.iter().filter(known).try_for_each(|k| k.resolve(&scope).map(|_| ()))?;
        }
        Ok(all)
    }

    fn clamp_pin(&mut self) {
        let len = self.runs.baseline.tokens().len();
        self.selection.pinned = self.selection.pinned.filter(|&at| at < len);
    }
}
