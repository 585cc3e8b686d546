//! The one list of commands: what views, menus, keys and the palette can ask for.
//!
//! Plain values. A command that needs nothing more to be said stands in [`listed`], with its words and its
//! keys; menus, the palette, the keys themselves and the overlay that explains them are made from it.

use std::path::PathBuf;

use crate::{
    spec::picture::ImageSource,
    trace::palette::Colormap,
    ui::store::{
        selection::{BASELINE, CUT},
        settings::{ColorRange, CutSettings, MapSettings, Underlay},
    },
    worker::protocol::Slot,
};

/// Something to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Answer this question, in at most so many tokens.
    Ask(String, usize),
    /// Answer the last question again.
    AskAgain,
    /// Stop what runs.
    Cancel,
    /// Take another image.
    OpenImage(ImageSource),
    /// Load another model folder.
    LoadModel(PathBuf),
    /// A typed or dropped path: a folder is a model, a file an image.
    OpenPath(PathBuf),
    /// Show the system's dialog for an image.
    PickImage,
    /// Show the system's dialog for a model folder.
    PickModel,
    /// Preview a token, or none.
    Hover(Option<(Slot, usize)>),
    /// Pin a token, or unpin it when it is pinned already.
    Pin(Slot, usize),
    /// Unpin.
    Unpin,
    /// Pin the next token.
    NextWord,
    /// Pin the token before.
    PreviousWord,
    /// Choose the run on show.
    Show(Slot),
    /// Choose a layer.
    Layer(usize),
    /// The next layer.
    LayerUp,
    /// The layer before.
    LayerDown,
    /// Choose a head, or the mean.
    Head(Option<usize>),
    /// Change how maps are drawn.
    Map(MapSettings),
    /// Draw the map, or do not.
    ToggleMap,
    /// Choose what lies under maps.
    Underlay(Underlay),
    /// Choose which numbers the colours stand for.
    Range(ColorRange),
    /// Of a tiled image: the tiles, or the view of the whole.
    ToggleTiles,
    /// Choose the colours of maps.
    Colours(Colormap),
    /// Change the knockouts in force.
    Cut(CutSettings),
    /// Cut the layer range, or do not.
    ToggleCut,
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
    /// Close the notice.
    DismissNotice,
}

impl Command {
    /// Whether it changes what can be taken back: cuts, the selection, settings.
    pub fn undoable(&self) -> bool {
        use Command as C;
        match self {
            C::Pin(..) | C::Unpin | C::NextWord | C::PreviousWord | C::Show(_) => true,
            C::Layer(_) | C::LayerUp | C::LayerDown | C::Head(_) => true,
            C::Map(_) | C::ToggleMap | C::Underlay(_) | C::Range(_) | C::ToggleTiles => true,
            C::Colours(_) | C::Cut(_) | C::ToggleCut => true,
            C::Ask(..) | C::AskAgain | C::Cancel | C::OpenImage(_) | C::LoadModel(_) => false,
            C::OpenPath(_) | C::PickImage | C::PickModel | C::Hover(_) | C::Undo | C::Redo => false,
            C::OpenPalette | C::ShowKeys | C::ToggleTheme | C::ResetLayout => false,
            C::DismissError | C::DismissNotice => false,
        }
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

    const fn ctrl_shift(key: &'static str) -> Self {
        Shortcut { ctrl: true, shift: true, key }
    }

    /// As people read it: "Ctrl+Shift+Z".
    pub fn text(&self) -> String {
        let (ctrl, shift) = (if self.ctrl { "Ctrl+" } else { "" }, if self.shift { "Shift+" } else { "" });
        format!("{ctrl}{shift}{}", self.key)
    }
}

/// A command as menus, keys and the palette have it.
#[derive(Debug)]
pub struct Listed {
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
    command: Command,
    text: &'static str,
    tooltip: &'static str,
    shortcuts: &'static [Shortcut],
) -> Listed {
    Listed { command, text, tooltip, shortcuts, while_typing: false }
}

const fn listed_anywhere(
    command: Command,
    text: &'static str,
    tooltip: &'static str,
    shortcuts: &'static [Shortcut],
) -> Listed {
    Listed { command, text, tooltip, shortcuts, while_typing: true }
}

use Shortcut as S;

static LISTED: &[Listed] = &[
    listed_anywhere(Command::OpenPalette, "Commands", "Search all commands", &[S::ctrl("K"), S::ctrl("P")]),
    listed_anywhere(Command::ShowKeys, "Keys", "What keys and the pointer do", &[S::plain("F1")]),
    listed_anywhere(
        Command::PickImage,
        "Open image…",
        "Or drop a file onto the window, or paste one",
        &[S::ctrl("O")],
    ),
    listed_anywhere(
        Command::PickModel,
        "Open model…",
        "A Hugging Face folder: LLaVA-1.5, Idefics3, SmolVLM",
        &[S::ctrl_shift("O")],
    ),
    listed_as(Command::AskAgain, "Ask again", "Answers the last question again", &[]),
    listed_as(Command::Cancel, "Cancel", "Stops what is going on; what is there stays", &[]),
    listed_as(Command::PreviousWord, "Previous word", "Pins the word before", &[S::plain("Left")]),
    listed_as(Command::NextWord, "Next word", "Pins the word after", &[S::plain("Right")]),
    listed_as(Command::Unpin, "Unpin", "Shows the whole answer again", &[S::plain("Esc")]),
    listed_as(Command::LayerUp, "Layer up", "One layer up", &[S::plain("Up")]),
    listed_as(Command::LayerDown, "Layer down", "One layer down", &[S::plain("Down")]),
    listed_as(Command::Head(None), "Mean of heads", "Shows the mean of all heads of the layer", &[]),
    listed_as(Command::Show(BASELINE), "Maps of baseline", "Maps and charts of the uncut answer", &[]),
    listed_as(Command::Show(CUT), "Maps of cut", "Maps and charts of the answer under the cut", &[]),
    listed_as(Command::ToggleMap, "Show or hide the map", "Draws the map over the image, or does not", &[]),
    listed_as(
        Command::Underlay(Underlay::Grey),
        "Map over the image in grey",
        "Every colour that is seen is the map's",
        &[],
    ),
    listed_as(
        Command::Underlay(Underlay::Colour),
        "Map over the image in colour",
        "The image's colours mix with the map's",
        &[],
    ),
    listed_as(Command::Underlay(Underlay::Nothing), "Map alone", "Pure colours, without the image", &[]),
    listed_as(
        Command::Range(ColorRange::Layers),
        "Range: all layers of the word",
        "Colours mean the same in every layer of a word",
        &[],
    ),
    listed_as(
        Command::Range(ColorRange::Map),
        "Range: each map its own",
        "Each map uses all colours, from its smallest to its largest value",
        &[],
    ),
    listed_as(Command::ToggleTiles, "Tiles or whole view", "Which view of a tiled image maps show", &[]),
    listed_as(Command::Colours(Colormap::Viridis), "Colours: viridis", "Dark violet to yellow", &[]),
    listed_as(Command::Colours(Colormap::Inferno), "Colours: inferno", "Black to pale yellow", &[]),
    listed_as(Command::Colours(Colormap::Magma), "Colours: magma", "Black to pale pink", &[]),
    listed_as(
        Command::ToggleCut,
        "Cut the layer range",
        "Blocks the answer's attention to the image in these layers, or does not",
        &[],
    ),
    listed_as(
        Command::Undo,
        "Undo",
        "Takes the last change of cut, selection or settings back",
        &[S::ctrl("Z")],
    ),
    listed_as(Command::Redo, "Redo", "Makes it again", &[S::ctrl_shift("Z"), S::ctrl("Y")]),
    listed_as(Command::ToggleTheme, "Dark or light", "Changes the colours of the window", &[]),
    listed_as(Command::ResetLayout, "Reset layout", "Puts all views where they were at first", &[]),
];

/// Every command that needs nothing more to be said.
pub fn listed() -> &'static [Listed] {
    LISTED
}

/// What the pointer does, and the keys that controls follow by themselves: no commands, but worth knowing.
pub const GESTURES: [(&str, &str); 7] = [
    ("hover a word", "preview what it looked at"),
    ("click a word", "pin it; click again to unpin"),
    ("click a bar of the chart", "go to that layer"),
    ("drag the layer range", "cut answer -> visual in those layers, live"),
    ("Tab, then arrows", "walk an answer, or move a handle of the range"),
    ("Enter in the question", "ask"),
    ("drag a title", "move that view elsewhere"),
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
    fn keys_read_as_people_write_them() {
        assert_eq!(Shortcut::ctrl_shift("Z").text(), "Ctrl+Shift+Z");
        assert_eq!(Shortcut::plain("Left").text(), "Left");
        assert_eq!(Shortcut::plain("Esc").text(), "Esc");
    }
}
