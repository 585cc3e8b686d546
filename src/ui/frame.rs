//! What one frame collects while it is drawn: commands that were asked for, and where things are; and what all
//! images of the window share: the part that is seen, and the cursor.
//!
//! Knows neither what is drawn nor who does what is asked for.

use egui::Rect;

use crate::ui::store::command::Command;

/// Which part of images is seen, in every view alike.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Zoom {
    /// 1: the whole image fits.
    pub scale: f32,
    /// What lies in the middle, as shares of the image.
    pub centre: [f32; 2],
}

impl Default for Zoom {
    fn default() -> Self {
        Zoom { scale: 1.0, centre: [0.5; 2] }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct Frame {
    /// Whether maps are drawn by the shader.
    pub gpu_maps: bool,
    /// Whether painting takes the model's cores: then nothing is painted for its looks alone.
    pub dear: bool,
    /// Which part of images is seen.
    pub zoom: Zoom,
    /// Where the pointer is on an image, as shares of it: in the last frame, and so far in this one.
    cursor: [Option<[f32; 2]>; 2],
    commands: Vec<Command>,
    places: Vec<(String, Rect)>,
    title_dragged: bool,
}

impl Frame {
    /// An empty one.
    pub fn new(gpu_maps: bool, dear: bool) -> Self {
        Frame { gpu_maps, dear, ..Default::default() }
    }

    /// Begins the next frame.
    pub fn clear(&mut self) {
        self.commands.clear();
        self.places.clear();
        self.title_dragged = false;
        self.cursor = [self.cursor[1], None];
    }

    /// Says where on an image the pointer is, as shares of it: every other image shows the same place.
    pub fn point_at(&mut self, at: [f32; 2]) {
        self.cursor[1] = Some(at);
    }

    /// Where on an image the pointer is, in whatever view.
    pub fn cursor(&self) -> Option<[f32; 2]> {
        self.cursor[1].or(self.cursor[0])
    }

    /// Asks for something to be done.
    pub fn ask(&mut self, command: Command) {
        self.commands.push(command);
    }

    /// Says where something was drawn: lets a script find it without guessing.
    pub fn place(&mut self, name: impl Into<String>, rect: Rect) {
        self.places.push((name.into(), rect));
    }

    /// A view's title is being dragged.
    pub fn drag_title(&mut self) {
        self.title_dragged = true;
    }

    /// What was asked for so far; it is not given twice.
    pub fn take_commands(&mut self) -> Vec<Command> {
        std::mem::take(&mut self.commands)
    }

    /// Whether a title was dragged since this was last asked.
    pub fn take_drag(&mut self) -> bool {
        std::mem::take(&mut self.title_dragged)
    }

    /// Where things were drawn, by name.
    pub fn places(&self) -> &[(String, Rect)] {
        &self.places
    }
}
