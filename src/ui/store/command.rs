//! The one list of commands: what views, menus, keys and the palette can ask for.
//!
//! Plain values. A command that needs nothing more to be said stands in [`listed`], with its words and its
//! keys; menus, the palette, the keys themselves and the overlay that explains them are made from it.

use std::path::PathBuf;

use crate::{
    device::address::Address,
    spec::{
        picture::ImageSource,
        study::{Study, StudyKind},
    },
    trace::{offer::Format, palette::Colormap, sheet::Underlay},
    ui::store::{
        cut_list::{Change, CutSettings, PaintRole, Preset},
        selection::{BASELINE, CUT},
        settings::{Asking, ColorRange, MapSettings, Tint, Tool, Views},
        setup::Setup,
        surveys::{ImageFolder, SurveyChoice},
        talk::Talk,
        view_id::ViewId,
    },
    worker::protocol::Slot,
};

/// Something to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Answer this question, in the place of the last one.
    Ask(String),
    /// Answer this question after the answer on show.
    GoOn(String),
    /// Keep the answer on show as what was said: the next question follows it. Nothing is asked.
    FollowUp,
    /// Change the conversation around the question; the next question is asked in it.
    Talk(Talk),
    /// Change how answers are chosen; the next question is answered so.
    Asking(Asking),
    /// Answer the last question again.
    AskAgain,
    /// Stop what runs.
    Cancel,
    /// Take another image.
    OpenImage(ImageSource),
    /// Load another model folder.
    LoadModel(PathBuf),
    /// Load the model that ships with the program.
    LoadBundled,
    /// Open a model by a typed folder, or by a name of the hub, from which it is fetched if the user agrees.
    OpenModel(PathBuf),
    /// Show the models that are known by name, or close the list.
    ShowModels,
    /// Fetch the model whose cost is on show.
    Fetch,
    /// Let what is being fetched rest, or go on.
    PauseFetch(bool),
    /// Stop what is being fetched; what came stays.
    StopFetch,
    /// Run models on another machine, or on this one, the present one, too: its connection is made, or made anew.
    RunAt(Option<Address>),
    /// A typed or dropped path: a folder is a model, a file an image.
    OpenPath(PathBuf),
    /// Show the system's dialog for an image.
    PickImage,
    /// Show the system's dialog for a model folder.
    PickModel,
    /// Read a mask of an object of the image on show.
    OpenMask(PathBuf),
    /// Show the system's dialog for a mask.
    PickMask,
    /// Show the system's dialog for a folder of images for studies.
    PickImages,
    /// Show the system's dialog for a session or a saved run.
    PickSession,
    /// Open a session file, or the folder of a saved run.
    OpenSession(PathBuf),
    /// Show the system's dialog for where the session is to be saved.
    SaveSession,
    /// Show the gallery of sample scenes, or close it.
    ShowGallery,
    /// Preview a token, or none.
    Hover(Option<(Slot, usize)>),
    /// Preview a layer and head, or none.
    Preview(Option<(usize, Option<usize>)>),
    /// The visual token under the pointer, or none.
    HoverPatch(Option<usize>),
    /// Pin a token, or unpin it when it is pinned already.
    Pin(Slot, usize),
    /// Pin everything from the token pinned first to this one.
    PinTo(Slot, usize),
    /// Pin the word that this token is part of.
    PinWord(Slot, usize),
    /// Unpin.
    Unpin,
    /// Pin the next token.
    NextWord,
    /// Pin the token before.
    PreviousWord,
    /// Choose the run on show.
    Show(Slot),
    /// Take the maps of this run off those of the run on show, or of none.
    Against(Option<Slot>),
    /// Keep the run under the cut, by its name.
    Keep,
    /// Make the state of a kept run the present one.
    Restore(Slot),
    /// Forget a kept run.
    Forget(Slot),
    /// The state before: image, question, cut.
    Back,
    /// The state after.
    Forward,
    /// Go to this state.
    Visit(Box<Setup>),
    /// Choose a layer.
    Layer(usize),
    /// The next layer.
    LayerUp,
    /// The layer before.
    LayerDown,
    /// Choose a head, or the mean.
    Head(Option<usize>),
    /// The next head.
    HeadUp,
    /// The head before.
    HeadDown,
    /// Lock a visual token, or free it; by number among those of the image.
    Lock(usize),
    /// Lock these visual tokens and no others.
    LockAll(Vec<usize>),
    /// Free all locked patches and positions.
    Free,
    /// Read a position with the lens, or do not.
    Position(usize),
    /// Change how maps are drawn.
    Map(MapSettings),
    /// Draw the map, or do not.
    ToggleMap,
    /// Choose what lies under maps.
    Underlay(Underlay),
    /// Choose which numbers the colours stand for.
    Range(ColorRange),
    /// Choose which views of a tiled image are seen.
    Views(Views),
    /// Choose the colours of maps.
    Colours(Colormap),
    /// Colours from patch to patch smoothly, or not.
    ToggleSmooth,
    /// Leave attention sinks out of maps, or do not.
    ToggleSinks,
    /// Draw the borders of patches, or do not.
    ToggleGrid,
    /// Choose what tints words.
    Tint(Tint),
    /// Choose what the pointer does on images.
    Tool(Tool),
    /// Change everything that is done to the model.
    Cut(CutSettings),
    /// Cut these layers, first and last, with the active knockout.
    CutLayers(usize, usize),
    /// Do something to the model.
    AddCut(Change),
    /// Cut by a name that papers have for it.
    AddPreset(Preset),
    /// Take one line off the list of cuts.
    RemoveCut(usize),
    /// Put one line of the list in force, or out of it.
    SwitchCut(usize),
    /// Let the layer strip move this line.
    ActivateCut(usize),
    /// Put all lines out of force, or the last ones back in force.
    ToggleCut,
    /// Take all lines off.
    ClearCuts,
    /// Paint patches, or wipe them.
    Paint {
        /// By number among those of the image.
        patches: Vec<usize>,
        /// Whether they are painted rather than wiped.
        add: bool,
    },
    /// What painted patches become, and by how many rings they grow.
    PaintAs(PaintRole, usize),
    /// Find something out about the run on show.
    Study(Box<Study>),
    /// Give a study up; what it found stays.
    DropStudy(StudyKind),
    /// Choose what the next study over images goes through: a folder, or the image on show.
    SurveyOver(Option<ImageFolder>),
    /// Begin a study over images.
    Survey(SurveyChoice),
    /// Stop the study over images; what it measured stays.
    StopSurvey,
    /// Go on with the study over images that was stopped.
    GoOnWithSurvey,
    /// Bring a view to the front.
    Focus(ViewId),
    /// Write down what a view shows.
    Export(ViewId, Format),
    /// Copy the command line that gives the numbers on show.
    CopyCommand,
    /// Copy the answer of the run on show.
    CopyAnswer,
    /// Copy the picture of the window.
    CopyPicture,
    /// Copy a text.
    Copy(String),
    /// Take the last change back.
    Undo,
    /// Make it again.
    Redo,
    /// Open the palette of commands, or close it.
    OpenPalette,
    /// Open the list of keys, or close it.
    ShowKeys,
    /// Dark or light.
    ToggleTheme,
    /// Put all views where they were at first.
    ResetLayout,
    /// Close the error banner.
    DismissError,
}

impl Command {
    /// Whether it changes what can be taken back: cuts, the selection, settings.
    pub fn undoable(&self) -> bool {
        use Command as C;
        let looks = matches!(
            self,
            C::Pin(..)
                | C::PinTo(..)
                | C::PinWord(..)
                | C::Unpin
                | C::NextWord
                | C::PreviousWord
                | C::Show(_)
                | C::Against(_)
                | C::Layer(_)
                | C::LayerUp
                | C::LayerDown
                | C::Head(_)
                | C::HeadUp
                | C::HeadDown
                | C::Lock(_)
                | C::LockAll(_)
                | C::Free
                | C::Position(_)
        );
        let draws = matches!(
            self,
            C::Map(_)
                | C::ToggleMap
                | C::Underlay(_)
                | C::Range(_)
                | C::Views(_)
                | C::Colours(_)
                | C::ToggleSmooth
                | C::ToggleSinks
                | C::ToggleGrid
                | C::Tint(_)
        );
        let goes = matches!(self, C::Restore(_) | C::Visit(_) | C::Back | C::Forward);
        looks || draws || goes || self.cuts() || matches!(self, C::ActivateCut(_))
    }

    /// Whether it changes what is done to the model: while the pointer is down, a hand rests on it.
    pub fn cuts(&self) -> bool {
        use Command as C;
        matches!(
            self,
            C::Cut(_)
                | C::CutLayers(..)
                | C::AddCut(_)
                | C::AddPreset(_)
                | C::RemoveCut(_)
                | C::SwitchCut(_)
                | C::ToggleCut
                | C::ClearCuts
                | C::Paint { .. }
                | C::PaintAs(..)
        )
    }
}

/// A key with its modifiers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shortcut {
    /// Ctrl, or Command on a Mac.
    pub ctrl: bool,
    /// Shift.
    pub shift: bool,
    /// The key's name, as egui has it.
    pub key: &'static str,
}

impl Shortcut {
    const fn plain(key: &'static str) -> Self {
        Shortcut { ctrl: false, shift: false, key }
    }

    const fn ctrl(key: &'static str) -> Self {
        Shortcut { ctrl: true, shift: false, key }
    }

    const fn shift(key: &'static str) -> Self {
        Shortcut { ctrl: false, shift: true, key }
    }

    const fn ctrl_shift(key: &'static str) -> Self {
        Shortcut { ctrl: true, shift: true, key }
    }

    /// As people read it: "Ctrl+Shift+Z".
    pub fn text(&self) -> String {
        let (ctrl, shift) = (if self.ctrl { "Ctrl+" } else { "" }, if self.shift { "Shift+" } else { "" });
        format!("{ctrl}{shift}{}", self.key)
    }
}

/// A menu.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Menu {
    /// Things to open and to save.
    File,
    /// Changes taken back, states gone through.
    Edit,
    /// What is looked at.
    Select,
    /// Views, and the look of the window.
    View,
    /// How maps are drawn.
    Map,
    /// What tints words.
    Words,
    /// What the pointer does on images.
    Pointer,
    /// Answers.
    Run,
    /// What is done to the model.
    Cut,
    /// How this is used.
    Help,
}

impl Menu {
    /// Those of the menu bar, from the left.
    pub const BAR: [Menu; 5] = [Menu::File, Menu::Edit, Menu::View, Menu::Run, Menu::Help];

    /// Its name, to show.
    pub fn name(self) -> &'static str {
        match self {
            Menu::File => "File",
            Menu::Edit => "Edit",
            Menu::Select => "Select",
            Menu::View => "View",
            Menu::Map => "Map",
            Menu::Words => "Tint of words",
            Menu::Pointer => "Pointer",
            Menu::Run => "Run",
            Menu::Cut => "Cuts",
            Menu::Help => "Help",
        }
    }

    /// The menus inside it.
    pub fn inside(self) -> &'static [Menu] {
        match self {
            Menu::Edit => &[Menu::Select],
            Menu::View => &[Menu::Map, Menu::Words, Menu::Pointer],
            Menu::Run => &[Menu::Cut],
            _ => &[],
        }
    }

    /// Its own entries.
    pub fn entries(self) -> impl Iterator<Item = &'static Listed> {
        listed().iter().filter(move |listed| listed.menu == self)
    }
}

/// A command as menus, keys and the palette have it.
#[derive(Debug)]
pub struct Listed {
    /// The menu that it stands in.
    pub menu: Menu,
    /// What it does.
    pub command: Command,
    /// Its name.
    pub text: &'static str,
    /// What it does, in words.
    pub tooltip: &'static str,
    /// Keys that call it.
    pub shortcuts: &'static [Shortcut],
    /// Whether they do so while a text is edited, too.
    pub while_typing: bool,
}

impl Listed {
    /// The tooltip, and the keys after it.
    pub fn hover_text(&self) -> String {
        match self.keys() {
            keys if keys.is_empty() => self.tooltip.to_string(),
            keys => format!("{} ({keys})", self.tooltip),
        }
    }

    /// Its keys, as people read them.
    pub fn keys(&self) -> String {
        self.shortcuts.iter().map(Shortcut::text).collect::<Vec<_>>().join(", ")
    }
}

const fn listed_as(
    menu: Menu,
    command: Command,
    text: &'static str,
    tooltip: &'static str,
    shortcuts: &'static [Shortcut],
) -> Listed {
    Listed { menu, command, text, tooltip, shortcuts, while_typing: false }
}

const fn listed_anywhere(
    menu: Menu,
    command: Command,
    text: &'static str,
    tooltip: &'static str,
    shortcuts: &'static [Shortcut],
) -> Listed {
    Listed { menu, command, text, tooltip, shortcuts, while_typing: true }
}

use Shortcut as S;

static LISTED: &[Listed] = &[
    // File.
    listed_anywhere(
        Menu::File,
        Command::PickImage,
        "Open image…",
        "Or drop a file onto the window, or paste one",
        &[S::ctrl("O")],
    ),
    listed_anywhere(
        Menu::File,
        Command::ShowGallery,
        "Sample scenes…",
        "Scenes that the bundled model knows, with thumbnails",
        &[S::ctrl("G")],
    ),
    listed_anywhere(
        Menu::File,
        Command::PickModel,
        "Open model…",
        "A Hugging Face folder: LLaVA-1.5, Idefics3, SmolVLM",
        &[S::ctrl_shift("O")],
    ),
    listed_anywhere(
        Menu::File,
        Command::ShowModels,
        "Models…",
        "Models of the hub: what they cost, which are here, and the one that is being fetched",
        &[S::ctrl("M")],
    ),
    listed_as(
        Menu::File,
        Command::LoadBundled,
        "Bundled model",
        "Small, and knows the sample scenes alone",
        &[],
    ),
    listed_as(
        Menu::File,
        Command::PickMask,
        "Open mask…",
        "A picture of the image's size whose pixels above 0 are an object",
        &[],
    ),
    listed_anywhere(
        Menu::File,
        Command::PickSession,
        "Open session or saved run…",
        "A session.json that this program or the command line wrote; a saved run opens without its model",
        &[],
    ),
    listed_anywhere(
        Menu::File,
        Command::SaveSession,
        "Save session…",
        "All runs with their numbers, to be opened again or replayed from the command line",
        &[S::ctrl("S")],
    ),
    listed_as(
        Menu::File,
        Command::CopyCommand,
        "Copy as command",
        "The sightline line that gives the same numbers without a window",
        &[S::ctrl_shift("C")],
    ),
    listed_as(
        Menu::File,
        Command::CopyPicture,
        "Copy picture of the window",
        "Puts a screenshot on the clipboard",
        &[],
    ),
    // Edit.
    listed_as(
        Menu::Edit,
        Command::Undo,
        "Undo",
        "Takes the last change of cut, selection or settings back",
        &[S::ctrl("Z")],
    ),
    listed_as(Menu::Edit, Command::Redo, "Redo", "Makes it again", &[S::ctrl_shift("Z"), S::ctrl("Y")]),
    listed_as(
        Menu::Edit,
        Command::CopyAnswer,
        "Copy answer",
        "The whole answer of the run on show, as text",
        &[S::ctrl("C")],
    ),
    listed_as(Menu::Edit, Command::Back, "Back", "The state before: image, question, cut", &[S::ctrl("[")]),
    listed_as(Menu::Edit, Command::Forward, "Forward", "The state after", &[S::ctrl("]")]),
    // Run.
    listed_as(Menu::Run, Command::AskAgain, "Ask again", "Answers the last question again", &[S::ctrl("R")]),
    listed_as(
        Menu::Run,
        Command::Cancel,
        "Cancel",
        "Stops what is going on; what is there stays",
        &[S::ctrl(".")],
    ),
    listed_as(
        Menu::Run,
        Command::Keep,
        "Keep this run",
        "Keeps the run under the cut by its letter; the next cut gets the next one",
        &[S::ctrl("D")],
    ),
    listed_as(
        Menu::Run,
        Command::PickImages,
        "Study a folder of images…",
        "Chooses the folder that studies go through, in the view Studies",
        &[],
    ),
    // Selection.
    listed_as(
        Menu::Select,
        Command::PreviousWord,
        "Previous word",
        "Pins the word before",
        &[S::plain("Left")],
    ),
    listed_as(Menu::Select, Command::NextWord, "Next word", "Pins the word after", &[S::plain("Right")]),
    listed_as(Menu::Select, Command::Unpin, "Unpin", "Shows the whole answer again", &[S::plain("Esc")]),
    listed_as(Menu::Select, Command::LayerUp, "Layer up", "One layer up", &[S::plain("Up")]),
    listed_as(Menu::Select, Command::LayerDown, "Layer down", "One layer down", &[S::plain("Down")]),
    listed_as(
        Menu::Select,
        Command::HeadUp,
        "Next head",
        "From the mean of heads through all of them",
        &[S::plain(".")],
    ),
    listed_as(
        Menu::Select,
        Command::HeadDown,
        "Previous head",
        "And back to the mean of heads",
        &[S::plain(",")],
    ),
    listed_as(
        Menu::Select,
        Command::Head(None),
        "Mean of heads",
        "Shows the mean of all heads of the layer",
        &[S::plain("M")],
    ),
    listed_as(Menu::Select, Command::Free, "Free patches", "Frees all locked patches and positions", &[]),
    listed_as(
        Menu::Select,
        Command::Show(BASELINE),
        "Maps of the uncut run",
        "Maps and charts of the uncut answer",
        &[],
    ),
    listed_as(
        Menu::Select,
        Command::Show(CUT),
        "Maps of the cut run",
        "Maps and charts of the answer under the cut",
        &[],
    ),
    listed_as(
        Menu::Select,
        Command::Against(Some(BASELINE)),
        "Difference to the uncut run",
        "Maps show how attention differs from that of the uncut answer, with its sign",
        &[],
    ),
    listed_as(Menu::Select, Command::Against(None), "No difference", "Maps show attention itself", &[]),
    // Maps.
    listed_as(
        Menu::Map,
        Command::ToggleMap,
        "Show or hide the map",
        "Draws the map over the image, or does not",
        &[S::plain("V")],
    ),
    listed_as(
        Menu::Map,
        Command::Underlay(Underlay::Grey),
        "Map over the image in grey",
        "Every colour that is seen is the map's",
        &[],
    ),
    listed_as(
        Menu::Map,
        Command::Underlay(Underlay::Colour),
        "Map over the image in colour",
        "The image's colours mix with the map's",
        &[],
    ),
    listed_as(
        Menu::Map,
        Command::Underlay(Underlay::Nothing),
        "Map alone",
        "Pure colours, without the image",
        &[],
    ),
    listed_as(
        Menu::Map,
        Command::Range(ColorRange::Layers),
        "Range: all layers of the word",
        "Colours mean the same in every layer of a word",
        &[],
    ),
    listed_as(
        Menu::Map,
        Command::Range(ColorRange::Map),
        "Range: each map its own",
        "Each map uses all colours, from its smallest to its largest value",
        &[],
    ),
    listed_as(
        Menu::Map,
        Command::ToggleSmooth,
        "Smooth or square",
        "Colours run from patch to patch, or each patch has one",
        &[],
    ),
    listed_as(
        Menu::Map,
        Command::ToggleSinks,
        "Leave out attention sinks",
        "Patches that every word looks at alike are left out of maps, or shown again",
        &[],
    ),
    listed_as(Menu::Map, Command::ToggleGrid, "Patch grid", "Draws the borders of patches, or does not", &[]),
    listed_as(
        Menu::Map,
        Command::Views(Views::Tiles),
        "Tiles merged",
        "Tiles where they lie on the image",
        &[],
    ),
    listed_as(
        Menu::Map,
        Command::Views(Views::Whole),
        "View of the whole",
        "The small view of the whole image",
        &[],
    ),
    listed_as(
        Menu::Map,
        Command::Views(Views::Apart),
        "As the model sees it",
        "Every view by itself, resized, cropped and padded as it enters the encoder",
        &[],
    ),
    listed_as(
        Menu::Map,
        Command::Colours(Colormap::Viridis),
        "Colours: viridis",
        "Dark violet to yellow",
        &[],
    ),
    listed_as(
        Menu::Map,
        Command::Colours(Colormap::Inferno),
        "Colours: inferno",
        "Black to pale yellow",
        &[],
    ),
    listed_as(Menu::Map, Command::Colours(Colormap::Magma), "Colours: magma", "Black to pale pink", &[]),
    listed_as(
        Menu::Map,
        Command::Colours(Colormap::Turbo),
        "Colours: turbo",
        "A rainbow: many steps, and no even brightness",
        &[],
    ),
    // Words.
    listed_as(
        Menu::Words,
        Command::Tint(Tint::Attention),
        "Tint words by attention",
        "To the image, or to the locked patches",
        &[],
    ),
    listed_as(
        Menu::Words,
        Command::Tint(Tint::Change),
        "Tint words by effect",
        "Change of log probability under the cut",
        &[],
    ),
    listed_as(
        Menu::Words,
        Command::Tint(Tint::Entropy),
        "Tint words by entropy",
        "How undecided the model was, in nats",
        &[],
    ),
    listed_as(Menu::Words, Command::Tint(Tint::Nothing), "No tint", "Words are not tinted", &[]),
    // The pointer.
    listed_as(
        Menu::Pointer,
        Command::Tool(Tool::Look),
        "Look",
        "The pointer reads values; a click locks a patch",
        &[S::plain("L")],
    ),
    listed_as(
        Menu::Pointer,
        Command::Tool(Tool::Brush),
        "Brush",
        "The pointer paints patches",
        &[S::plain("B")],
    ),
    listed_as(
        Menu::Pointer,
        Command::Tool(Tool::Box),
        "Box",
        "The pointer paints a rectangle of patches",
        &[S::plain("X")],
    ),
    listed_as(
        Menu::Pointer,
        Command::Tool(Tool::Wipe),
        "Wipe",
        "The pointer wipes painted patches",
        &[S::plain("W")],
    ),
    // Cuts.
    listed_as(
        Menu::Cut,
        Command::ToggleCut,
        "Cut or not",
        "Puts all cuts out of force, or back in force",
        &[S::plain("C")],
    ),
    listed_as(Menu::Cut, Command::ClearCuts, "Clear cuts", "Takes all cuts and ablations off", &[]),
    listed_as(
        Menu::Cut,
        Command::AddPreset(Preset::ImageToGenerated),
        "Cut image -> generated",
        "Answer tokens cannot look at visual tokens",
        &[],
    ),
    listed_as(
        Menu::Cut,
        Command::AddPreset(Preset::ImageToText),
        "Cut image -> text",
        "The prompt's text cannot look at visual tokens",
        &[],
    ),
    listed_as(
        Menu::Cut,
        Command::AddPreset(Preset::ImageToBoth),
        "Cut image -> text + generated",
        "Neither prompt nor answer can look at visual tokens",
        &[],
    ),
    listed_as(
        Menu::Cut,
        Command::AddPreset(Preset::ImageToLast),
        "Cut image -> last",
        "The last prompt row sees no visual token",
        &[],
    ),
    listed_as(
        Menu::Cut,
        Command::AddPreset(Preset::LastRow),
        "Cut the last row of the image",
        "The last row of visual tokens cannot look at the others",
        &[],
    ),
    listed_as(
        Menu::Cut,
        Command::AddPreset(Preset::AllButWindow),
        "Cut all but a window",
        "Answer tokens see visual tokens in the middle third of the layers alone",
        &[],
    ),
    // Window.
    listed_anywhere(
        Menu::Help,
        Command::OpenPalette,
        "Commands…",
        "Search all commands",
        &[S::ctrl("K"), S::ctrl("P")],
    ),
    listed_anywhere(Menu::View, Command::Focus(ViewId::Image), "Image", "Goes to the image", &[S::ctrl("1")]),
    listed_anywhere(
        Menu::View,
        Command::Focus(ViewId::Answer),
        "Runs",
        "Goes to the answers",
        &[S::ctrl("2")],
    ),
    listed_anywhere(
        Menu::View,
        Command::Focus(ViewId::Flow),
        "Flow",
        "Who reads what, layer by layer",
        &[S::ctrl("3")],
    ),
    listed_anywhere(
        Menu::View,
        Command::Focus(ViewId::Heads),
        "Heads",
        "All heads and layers",
        &[S::ctrl("4")],
    ),
    listed_anywhere(
        Menu::View,
        Command::Focus(ViewId::Lens),
        "Lens",
        "What every layer would say",
        &[S::ctrl("5")],
    ),
    listed_anywhere(
        Menu::View,
        Command::Focus(ViewId::Effects),
        "Effects",
        "What patches do to a word, beside how much it looks at them",
        &[S::ctrl("6")],
    ),
    listed_anywhere(
        Menu::View,
        Command::Focus(ViewId::Cut),
        "Cuts",
        "What is done to the model, and the proof",
        &[S::ctrl("7")],
    ),
    listed_anywhere(
        Menu::View,
        Command::Focus(ViewId::Compress),
        "Compress",
        "What a shortened context still knows",
        &[S::ctrl("8")],
    ),
    listed_anywhere(
        Menu::View,
        Command::Focus(ViewId::Studies),
        "Studies",
        "The papers' figures, over this image or a folder of images",
        &[S::ctrl("9")],
    ),
    listed_anywhere(
        Menu::Help,
        Command::ShowKeys,
        "Keys",
        "What keys and the pointer do",
        &[S::plain("F1"), S::shift("?")],
    ),
    listed_as(Menu::View, Command::ToggleTheme, "Dark or light", "Changes the colours of the window", &[]),
    listed_as(
        Menu::View,
        Command::ResetLayout,
        "Reset layout",
        "Puts all views where they were at first",
        &[],
    ),
];

/// Every command that needs nothing more to be said.
pub fn listed() -> &'static [Listed] {
    LISTED
}

/// What the pointer does, and the keys that controls follow by themselves: no commands, but worth knowing.
pub const GESTURES: [(&str, &str); 17] = [
    ("hover a word", "preview what it looked at"),
    ("click a word", "pin it; click again to unpin"),
    ("shift-click or drag words", "pin a phrase"),
    ("double-click a word", "pin all its tokens"),
    ("right-click a word", "copy the whole answer"),
    ("hover a patch", "its value, and the words that looked there"),
    ("click a patch", "lock it: words are tinted by how much they looked there"),
    ("brush or box on the image", "paint patches: ablated or cut as you choose"),
    ("wheel, middle or space drag", "zoom and move every image of the window"),
    ("double-click the image", "fit it again"),
    ("hover or click a layer", "preview it, or look at it"),
    ("drag over layers", "cut them, live; drag a handle to change the range"),
    ("click a head", "look at it; shift-click cuts it"),
    ("Tab, then arrows", "walk an answer, or move a handle of the range"),
    ("Enter in the question", "ask"),
    ("drag a title", "move that view elsewhere"),
    ("drop a file", "an image, a mask, a model folder, a session or a saved run"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_calls_two_commands() {
        let all: Vec<&Shortcut> = listed().iter().flat_map(|l| l.shortcuts).collect();
        for (at, shortcut) in all.iter().enumerate() {
            assert!(!all[..at].contains(shortcut), "{} twice", shortcut.text());
        }
    }

    #[test]
    fn every_command_stands_in_a_menu_that_is_reached() {
        let reached: Vec<Menu> =
            Menu::BAR.into_iter().flat_map(|menu| menu.inside().iter().copied().chain([menu])).collect();
        for listed in listed() {
            assert!(reached.contains(&listed.menu), "{}", listed.text);
        }
        assert!(reached.iter().all(|menu| menu.entries().next().is_some()));
        let count: usize = reached.iter().map(|menu| menu.entries().count()).sum();
        assert_eq!(count, listed().len(), "and in no other");
    }

    #[test]
    fn keys_read_as_people_write_them() {
        assert_eq!(Shortcut::ctrl_shift("Z").text(), "Ctrl+Shift+Z");
        assert_eq!(Shortcut::plain("Left").text(), "Left");
        assert_eq!(Shortcut::plain("Esc").text(), "Esc");
    }
}
