//! What commands do to the store.
//!
//! Dialogs, files, the clipboard and the look of the window are others' business: their commands do nothing here.

use std::path::PathBuf;

use crate::{
    bundled,
    device::address::Address,
    spec::{picture::ImageSource, study::Study},
    trace::words::{Piece, words},
    ui::store::{
        arriving::{Arriving, Before},
        command::Command,
        elsewhere::Elsewhere,
        selection::{BASELINE, CUT, Selection},
        setup::Setup,
        store::Store,
        undo::Changeable,
    },
    worker::protocol::{Request, Slot},
};

impl Store {
    /// Does what was asked for, as far as it concerns the worker or this store.
    pub fn apply(&mut self, command: Command) -> Vec<Request> {
        let undoable = command.undoable();
        let before = undoable.then(|| self.changeable());
        let requests = self.change(command);
        if let Some(before) = before {
            let after = self.changeable();
            self.history.note(before, after);
        }
        if requests.iter().any(|request| !matches!(request, Request::Cancel | Request::Drop(_))) {
            self.cancelled = false;
        }
        self.kept.follow(&self.runs, &self.selection);
        requests
    }

    /// The pointer let go: the next change of a slider or handle is another step to take back.
    pub fn release(&mut self) {
        self.history.release();
    }

    fn change(&mut self, command: Command) -> Vec<Request> {
        match command {
            Command::Hover(token) => {
                self.selection.hovered = token;
                return Vec::new();
            }
            Command::HoverPatch(patch) => {
                self.selection.patch = patch;
                return Vec::new();
            }
            Command::Preview(at) => {
                let (n_layers, n_heads) = (self.n_layers(), self.n_heads());
                let there = |&(layer, head): &(usize, Option<usize>)| {
                    layer < n_layers && head.is_none_or(|head| head < n_heads)
                };
                self.selection.preview = at.filter(there);
                return Vec::new();
            }
            Command::Ask(_) | Command::GoOn(_) | Command::AskAgain => return self.begin(command),
            Command::OpenImage(_) | Command::LoadModel(_) | Command::LoadBundled => {
                return self.begin(command);
            }
            Command::RunAt(address) => return self.run_at(address),
            Command::OpenMask(path) => return vec![Request::Mark(path)],
            Command::Cancel => return self.cancel(),
            Command::Study(study) => return self.study(*study),
            Command::DropStudy(kind) => {
                let id = self.studies.get(kind).map(|run| run.id);
                return id.map(Request::Drop).into_iter().collect();
            }
            Command::Survey(choice) => return self.survey(choice),
            Command::GoOnWithSurvey => return self.go_on_with_survey(),
            Command::StopSurvey => {
                let id = self.surveys.running().map(|run| run.id);
                return id.map(Request::Drop).into_iter().collect();
            }
            Command::SurveyOver(folder) => self.survey_over(folder),
            Command::Back | Command::Forward => {
                if let Some(setup) = self.trail.go(command == Command::Back) {
                    return self.visit(setup);
                }
            }
            Command::Visit(setup) => return self.visit(*setup),
            Command::Restore(slot) => return self.restore(slot),
            Command::Keep => _ = self.runs.keep(CUT),
            Command::Forget(slot) => self.runs.forget(slot),
            Command::Undo | Command::Redo => self.step_back_or_forth(command == Command::Undo),
            Command::DismissError => self.error = None,
            Command::Asking(asking) => self.asking = asking,
            Command::Talk(talk) => self.talk = talk,
            Command::FollowUp => self.talk = self.answered().unwrap_or_else(|| self.talk.clone()),
            Command::Tool(tool) => self.tool = tool,
            other => {
                self.select(&other);
                self.set(&other);
                self.cut(other);
            }
        }
        self.due()
    }

    /// Commands that ask, open or load.
    fn begin(&mut self, command: Command) -> Vec<Request> {
        match command {
            Command::OpenImage(source) => {
                self.begin_loading();
                // What was said was about the other one.
                self.set_aside();
                self.note_recent(&source);
                self.wanted.open(source.clone());
                vec![Request::OpenImage(source)]
            }
            Command::LoadModel(path) => vec![self.load(path, true)],
            Command::LoadBundled => vec![self.load(bundled::model(), true)],
            Command::Ask(prompt) => {
                self.prompt = prompt;
                self.ask_when_ready()
            }
            Command::GoOn(prompt) => {
                let Some(talk) = self.answered() else { return Vec::new() };
                (self.talk, self.prompt) = (talk, prompt);
                self.ask_when_ready()
            }
            _ => {
                // A question that was to follow the last one is not it.
                let shown = self.runs.baseline().view();
                if let Some(run) = shown.filter(|run| run.setup.prompt == self.prompt.trim()) {
                    self.talk.earlier.truncate(run.setup.talk.earlier.len());
                }
                self.ask_when_ready()
            }
        }
    }

    /// Models run elsewhere, or here, from now on: the one that is there, too.
    fn run_at(&mut self, address: Option<Address>) -> Vec<Request> {
        let earlier = self.talk.earlier.clone();
        self.set_aside();
        self.elsewhere = address.clone().map(Elsewhere::at);
        self.error = None;
        let place = Request::Place(address);
        let load = self.folder.clone().map(|folder| self.load(folder, false));
        // What was said, the same model said.
        self.talk.earlier = earlier;
        [place].into_iter().chain(load).collect()
    }

    /// Loads a model, which the user opened or which goes elsewhere.
    fn load(&mut self, folder: PathBuf, opened: bool) -> Request {
        self.begin_loading();
        // What was said was another model's.
        self.set_aside();
        self.wanted.load();
        self.folder = Some(folder.clone());
        self.arriving = Some(Arriving { folder: folder.clone(), opened });
        Request::LoadModel(folder)
    }

    /// Keeps what is to be so again where what is asked for never comes, and begins the conversation anew.
    fn set_aside(&mut self) {
        let earlier = std::mem::take(&mut self.talk.earlier);
        let before = self
            .before
            .get_or_insert_with(|| Before { elsewhere: self.elsewhere.clone(), earlier: Vec::new() });
        // What was said since the first was asked for counts.
        if !earlier.is_empty() {
            before.earlier = earlier;
        }
    }

    /// Commands that change what is looked at.
    fn select(&mut self, command: &Command) {
        let (n_layers, n_heads) = (self.n_layers(), self.n_heads());
        match command {
            Command::Layer(_) | Command::LayerUp | Command::LayerDown => self.layer_chosen = true,
            Command::Pin(..) | Command::PinTo(..) | Command::PinWord(..) | Command::Unpin => {
                self.at_first_sight = false;
            }
            Command::NextWord | Command::PreviousWord => self.at_first_sight = false,
            _ => {}
        }
        let word = match command {
            Command::PinWord(slot, token) => self.word(*slot, *token),
            _ => Vec::new(),
        };
        let len = self.runs.lane(self.selection.slot).tokens().len();
        let selection = &mut self.selection;
        match command {
            Command::Pin(slot, token) => selection.pin(*slot, *token),
            Command::PinTo(slot, token) => selection.pin_to(*slot, *token),
            Command::PinWord(slot, _) => selection.pin_all(*slot, word),
            Command::Unpin => selection.pin_all(selection.slot, Vec::new()),
            Command::NextWord | Command::PreviousWord => {
                selection.step_token(if *command == Command::NextWord { 1 } else { -1 }, len);
                selection.hovered = None;
            }
            Command::Show(slot) if self.runs.has(*slot) => {
                selection.slot = *slot;
                selection.against = selection.against.filter(|other| other != slot);
                self.clamp_pins();
            }
            Command::Against(slot) => {
                selection.against = slot.filter(|slot| self.runs.has(*slot));
                // Taken off itself, a run would be nothing: then the other one is on show.
                if selection.against == Some(selection.slot) {
                    let other = if selection.slot == BASELINE { CUT } else { BASELINE };
                    selection.slot = if self.runs.has(other) { other } else { selection.slot };
                    selection.against = selection.against.filter(|slot| *slot != selection.slot);
                }
            }
            Command::Layer(layer) => selection.layer = (*layer).min(n_layers.saturating_sub(1)),
            Command::LayerUp => selection.step_layer(1, n_layers),
            Command::LayerDown => selection.step_layer(-1, n_layers),
            Command::Head(head) => selection.head = head.filter(|head| *head < n_heads),
            Command::HeadUp => selection.step_head(1, n_heads),
            Command::HeadDown => selection.step_head(-1, n_heads),
            Command::Lock(patch) => toggle(&mut selection.patches, *patch),
            Command::LockAll(patches) => selection.patches = patches.iter().copied().collect(),
            Command::Free => {
                selection.patches.clear();
                selection.positions.clear();
            }
            Command::Position(at) => toggle(&mut selection.positions, *at),
            _ => {}
        }
    }

    /// The tokens of the word that one of an answer is part of.
    fn word(&self, slot: Slot, token: usize) -> Vec<usize> {
        let tokens = self.runs.lane(slot).tokens();
        let pieces = tokens.iter().enumerate().filter(|(_, (token, _))| !token.end);
        let pieces: Vec<Piece<'_>> = pieces
            .map(|(position, (token, _))| Piece { position, text: &token.text, partial: token.partial })
            .collect();
        let all = words(&pieces).into_iter().map(|word| word.positions);
        all.into_iter().find(|positions| positions.contains(&token)).unwrap_or_else(|| vec![token])
    }

    /// Commands that change settings.
    fn set(&mut self, command: &Command) {
        let map = &mut self.map;
        match command {
            Command::Map(settings) => *map = *settings,
            Command::ToggleMap => map.visible = !map.visible,
            Command::Underlay(underlay) => map.underlay = *underlay,
            Command::Range(range) => map.range = *range,
            Command::Views(views) => map.views = *views,
            Command::Colours(colormap) => map.colormap = *colormap,
            Command::ToggleSmooth => map.smooth = !map.smooth,
            Command::ToggleSinks => map.without_sinks = !map.without_sinks,
            Command::ToggleGrid => map.grid = !map.grid,
            Command::Tint(tint) => self.tint = *tint,
            _ => {}
        }
    }

    /// Commands that change what is done to the model.
    fn cut(&mut self, command: Command) {
        let n_layers = self.n_layers();
        match command {
            Command::Cut(settings) => self.cut = settings,
            Command::CutLayers(first, last) => {
                let end = n_layers.saturating_sub(1);
                self.cut.cut_layers((first.min(end), last.min(end)));
            }
            Command::AddCut(change) => self.cut.add(change),
            Command::AddPreset(preset) => {
                self.cut.add(preset.change(n_layers, &Default::default()));
            }
            Command::RemoveCut(line) => self.cut.remove(line),
            Command::SwitchCut(line) => {
                if let Some(item) = self.cut.items.get_mut(line) {
                    item.on = !item.on;
                }
            }
            Command::ActivateCut(line) if line < self.cut.items.len() => self.cut.active = line,
            Command::ToggleCut => self.toggle_cut(),
            Command::ClearCuts => self.cut.items.clear(),
            Command::Paint { patches, add } => match self.cut.role.is_only_selected() {
                false => self.cut.paint(&patches, add),
                true if add => self.selection.patches.extend(patches),
                true => self.selection.patches.retain(|patch| !patches.contains(patch)),
            },
            Command::PaintAs(role, rings) => self.cut.paint_as(role, rings),
            _ => {}
        }
    }

    /// Puts every line out of force, or those back in force that were when that was last done.
    fn toggle_cut(&mut self) {
        let on = |(line, item): (usize, &crate::ui::store::cut_list::CutItem)| item.on.then_some(line);
        let in_force: Vec<usize> = self.cut.items.iter().enumerate().filter_map(on).collect();
        if in_force.is_empty() {
            let back = std::mem::take(&mut self.put_out);
            let all = back.iter().all(|line| *line >= self.cut.items.len());
            for (line, item) in self.cut.items.iter_mut().enumerate() {
                item.on = all || back.contains(&line);
            }
        } else {
            self.cut.items.iter_mut().for_each(|item| item.on = false);
            self.put_out = in_force;
        }
    }

    /// Asks for a study of the run on show; only the lens reads a run under a cut as it is, other studies are of its
    /// uncut run.
    fn study(&mut self, study: Study) -> Vec<Request> {
        let slot = self.selection.slot;
        let run = match study {
            Study::Lens(_) => self.runs.lane(slot).complete(),
            _ => self.base_of(slot).filter(|run| run.end.is_some()),
        };
        let ready = self.model.is_some() && !self.wanted.loading();
        let Some(run) = run.filter(|_| ready) else { return Vec::new() };
        let (base, experiment) = (run.id, run.experiment.clone());
        let name = self.runs.slot_showing(base).map(|slot| self.runs.name(slot)).unwrap_or_default();
        let id = self.runs.next_id();
        self.studies.begin(id, study.clone(), base, name);
        vec![Request::Study { id, base: Box::new(experiment), study: Box::new(study) }]
    }

    /// Goes to a state: to the kept runs that were asked in it, or by asking anew.
    fn visit(&mut self, setup: Setup) -> Vec<Request> {
        let find = |fits: &dyn Fn(&Setup) -> bool| {
            let fits = |slot: &Slot| self.runs.lane(*slot).view().is_some_and(|run| fits(&run.setup));
            self.runs.kept().into_iter().find(fits)
        };
        let kept = find(&|own| *own == setup).or_else(|| find(&|own| own.same_question(&setup)));
        if let Some(slot) = kept {
            let requests = self.restore(slot);
            self.cut = setup.cut;
            return requests.into_iter().chain(self.due()).collect();
        }
        self.adopt(&setup);
        match setup.image {
            Some(source) if self.images.source() != Some(&source) => self.open_again(source),
            _ => self.ask_when_ready(),
        }
    }

    fn open_again(&mut self, source: ImageSource) -> Vec<Request> {
        self.begin_loading();
        self.wanted.open(source.clone());
        vec![Request::OpenImage(source)]
    }

    /// Makes the state of a kept run the present one; nothing of it has to run again.
    fn restore(&mut self, slot: Slot) -> Vec<Request> {
        let Some(setup) = self.runs.restore(slot) else { return Vec::new() };
        self.adopt(&setup);
        let gone = setup.image.clone().filter(|source| !self.images.show(source));
        self.trail.note(setup);
        if let Some(source) = gone {
            // The image was let go meanwhile: it is opened, and asked about anew.
            return self.open_again(source);
        }
        self.selection.forget();
        self.selection.slot = if self.runs.has(CUT) { CUT } else { BASELINE };
        self.selection.against = None;
        self.due()
    }

    fn ask_when_ready(&mut self) -> Vec<Request> {
        self.error = None;
        if self.wanted.loading() {
            self.wanted.ask();
            return Vec::new();
        }
        self.wanted.cancel();
        // An image that a saved run brought was not seen by this model yet.
        match self.image().filter(|image| image.views.is_empty()).map(|image| image.source.clone()) {
            Some(source) if self.model.is_some() => self.open_again(source),
            _ => self.ask(),
        }
    }

    fn cancel(&mut self) -> Vec<Request> {
        self.cancelled = self.busy();
        self.wanted.cancel();
        self.progress = None;
        let back = self.give_back();
        let setup = self.setup();
        [self.runs.cancel(&setup)].into_iter().chain(back).collect()
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
            let Changeable { slot, tokens, patches, positions, layer, head, against, tint, map, cut, .. } =
                to;
            (self.map, self.cut, self.tint) = (map, cut, tint);
            let selection = &mut self.selection;
            selection.anchor = tokens.first().copied();
            (selection.slot, selection.tokens, selection.layer, selection.head) = (slot, tokens, layer, head);
            (selection.patches, selection.positions, selection.against) = (patches, positions, against);
            self.clamp_pins();
        }
    }

    fn changeable(&self) -> Changeable {
        let Selection { slot, tokens, answer, layer, head, patches, positions, against, .. } =
            self.selection.clone();
        let (tint, map, cut) = (self.tint, self.map, self.cut.clone());
        Changeable { slot, tokens, patches, positions, answer, layer, head, against, tint, map, cut }
    }
}

fn toggle(set: &mut std::collections::BTreeSet<usize>, member: usize) {
    if !set.remove(&member) {
        set.insert(member);
    }
}
