//! Words in wrapped rows whose places are kept: a long text is laid out once for its contents and width, and only
//! the rows that are seen need drawing.
//!
//! Places are points from the flow's upper left corner. Knows texts and their widths; not what they are words of.

use std::{collections::HashMap, ops::Range};

use egui::{Color32, FontId, Pos2, Rect, Ui, pos2};

/// Widths that are remembered.
const REMEMBERED: usize = 20_000;

/// A word to be placed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Its text; a blank before it is a gap.
    pub text: String,
    /// The first of what it stands for.
    pub first: usize,
    /// The last.
    pub last: usize,
    /// Whether a new row begins after it.
    pub breaks: bool,
}

/// How words flow.
#[derive(Clone, Debug, PartialEq)]
pub struct FlowLook {
    /// Of the words.
    pub font: FontId,
    /// From row to row.
    pub row: f32,
    /// Height of a word.
    pub body: f32,
    /// The gap that a blank is.
    pub lead: f32,
    /// Room within a word at its left and right.
    pub pad: f32,
}

/// A word in its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Placed {
    /// Its text, without blanks around it.
    pub text: String,
    /// The first of what it stands for.
    pub first: usize,
    /// The last.
    pub last: usize,
    /// What lights up.
    pub body: Rect,
    /// What the pointer hits: the gap before it, too.
    pub hit: Rect,
}

impl Placed {
    /// Whether it stands for this.
    pub fn holds(&self, at: usize) -> bool {
        (self.first..=self.last).contains(&at)
    }
}

/// Where the words are. `K` names what is placed.
#[derive(Debug)]
pub struct WordFlow<K> {
    /// What was placed, how wide, and at how many pixels a point.
    key: Option<(K, f32, f32)>,
    /// Widths of texts at that many pixels a point.
    widths: HashMap<String, f32>,
    placed: Vec<Placed>,
    /// Which words stand in each row.
    rows: Vec<Range<usize>>,
    row: f32,
}

impl<K> Default for WordFlow<K> {
    fn default() -> Self {
        WordFlow { key: None, widths: HashMap::new(), placed: Vec::new(), rows: Vec::new(), row: 0.0 }
    }
}

impl<K: PartialEq> WordFlow<K> {
    /// Places the words, where they are not those that stand there already.
    pub fn follow(
        &mut self,
        ui: &Ui,
        (key, width): (K, f32),
        look: &FlowLook,
        pieces: impl FnOnce() -> Vec<Piece>,
    ) {
        let scale = ui.pixels_per_point();
        let same = |(held, w, s): &(K, f32, f32)| *held == key && *w == width && *s == scale;
        if self.key.as_ref().is_some_and(same) {
            return;
        }
        if self.key.as_ref().is_some_and(|(_, _, s)| *s != scale) || self.widths.len() > REMEMBERED {
            self.widths.clear();
        }
        let (painter, widths) = (ui.painter(), &mut self.widths);
        let measure = |text: &str| match widths.get(text) {
            Some(width) => *width,
            None => {
                let ink = painter.layout_no_wrap(text.to_string(), look.font.clone(), Color32::PLACEHOLDER);
                widths.insert(text.to_string(), ink.size().x);
                ink.size().x
            }
        };
        (self.placed, self.rows) = place(pieces(), width, look, measure);
        self.row = look.row;
        self.key = Some((key, width, scale));
    }

    /// Height of all rows.
    pub fn height(&self) -> f32 {
        self.rows.len() as f32 * self.row
    }

    /// The words of the rows that lie between two heights.
    pub fn visible(&self, top: f32, bottom: f32) -> &[Placed] {
        let rows = visible_rows(self.rows.len(), self.row, top, bottom);
        if rows.is_empty() {
            return &[];
        }
        let first = self.rows.get(rows.start).map_or(0, |row| row.start);
        let last = rows.end.checked_sub(1).and_then(|row| self.rows.get(row)).map_or(0, |row| row.end);
        self.placed.get(first..last).unwrap_or_default()
    }

    /// The word nearest to a place: of the row there, the first or last where it lies beside them.
    pub fn nearest(&self, at: Pos2) -> Option<&Placed> {
        let row = (at.y / self.row.max(1.0)).floor().max(0.0) as usize;
        let row = self.rows.get(row.min(self.rows.len().checked_sub(1)?))?;
        let words = self.placed.get(row.clone())?;
        words.iter().find(|word| at.x < word.hit.right()).or(words.last())
    }

    /// The word that stands for this.
    pub fn of(&self, at: usize) -> Option<&Placed> {
        let after = self.placed.partition_point(|word| word.last < at);
        self.placed.get(after).filter(|word| word.holds(at))
    }
}

/// Which of `n` rows lie between two heights, in part or whole.
fn visible_rows(n: usize, row: f32, top: f32, bottom: f32) -> Range<usize> {
    if row <= 0.0 || bottom <= top {
        return 0..0;
    }
    let first = (top / row).floor().max(0.0) as usize;
    let end = (bottom / row).ceil().max(0.0) as usize;
    first.min(n)..end.clamp(first.min(n), n)
}

/// Places words row by row. A word that is wider than a row has one of its own.
fn place(
    pieces: Vec<Piece>,
    width: f32,
    look: &FlowLook,
    mut measure: impl FnMut(&str) -> f32,
) -> (Vec<Placed>, Vec<Range<usize>>) {
    let mut placed: Vec<Placed> = Vec::with_capacity(pieces.len());
    let mut rows: Vec<Range<usize>> = Vec::new();
    let (mut x, mut begun) = (0.0, 0);
    for piece in pieces {
        let text = piece.text.trim();
        let lead = if piece.text.starts_with(char::is_whitespace) { look.lead } else { 0.0 };
        let ink = measure(text) + 2.0 * look.pad;
        if placed.len() > begun && x + lead + ink > width {
            rows.push(begun..placed.len());
            (x, begun) = (0.0, placed.len());
        }
        let top = rows.len() as f32 * look.row;
        let body = Rect::from_min_max(pos2(x + lead, top), pos2(x + lead + ink, top + look.body));
        let hit = Rect::from_min_max(pos2(x, top), pos2(body.right(), top + look.row));
        x = body.right();
        placed.push(Placed { text: text.to_string(), first: piece.first, last: piece.last, body, hit });
        if piece.breaks {
            rows.push(begun..placed.len());
            (x, begun) = (0.0, placed.len());
        }
    }
    if placed.len() > begun {
        rows.push(begun..placed.len());
    }
    (placed, rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look() -> FlowLook {
        FlowLook { font: FontId::monospace(10.0), row: 20.0, body: 18.0, lead: 5.0, pad: 2.0 }
    }

    fn piece(at: usize, text: &str) -> Piece {
        Piece { text: text.to_string(), first: at, last: at, breaks: text.contains('\n') }
    }

    /// Ten points a letter.
    fn flow(texts: &[&str], width: f32) -> WordFlow<u8> {
        let pieces = texts.iter().enumerate().map(|(at, text)| piece(at, text)).collect();
        let (placed, rows) = place(pieces, width, &look(), |text| 10.0 * text.chars().count() as f32);
        WordFlow { placed, rows, row: look().row, ..WordFlow::default() }
    }

    #[test]
    fn words_wrap_and_keep_to_their_rows() {
        let flow = flow(&["aa", " bb", "c", " dd"], 70.0);
        let rows: Vec<(f32, f32)> = flow.placed.iter().map(|w| (w.body.left(), w.body.top())).collect();
        assert_eq!(rows, [(0.0, 0.0), (29.0, 0.0), (53.0, 0.0), (5.0, 20.0)]);
        assert_eq!(flow.height(), 40.0);
        assert!(flow.placed.iter().all(|word| word.hit.contains_rect(word.body)));
    }

    #[test]
    fn what_is_wider_than_a_row_and_what_ends_one_has_its_own() {
        let flow = flow(&["a", " much wider", " b\n", " c"], 50.0);
        assert_eq!(flow.rows, [0..1, 1..2, 2..3, 3..4]);
    }

    #[test]
    fn only_rows_that_are_seen_are_given() {
        let texts = vec![" word"; 2000];
        let flow = flow(&texts, 100.0);
        assert_eq!(flow.rows.len(), 1000);
        let seen = flow.visible(1005.0, 1090.0);
        assert_eq!((seen.first().unwrap().first, seen.len()), (100, 10));
        assert!(flow.visible(-90.0, -10.0).is_empty() && flow.visible(1e6, 2e6).is_empty());
        assert_eq!(flow.visible(f32::MIN, f32::MAX).len(), 2000);
    }

    #[test]
    fn the_nearest_word_is_of_the_row_under_the_pointer() {
        let flow = flow(&["aa", " bb", " cc"], 60.0);
        let at = |x: f32, y: f32| flow.nearest(pos2(x, y)).map(|word| word.first);
        assert_eq!([at(-5.0, 3.0), at(26.0, 3.0), at(500.0, 3.0)], [Some(0), Some(1), Some(1)]);
        assert_eq!([at(1.0, 25.0), at(1.0, 900.0), at(1.0, -9.0)], [Some(2), Some(2), Some(0)]);
        assert_eq!(flow.of(2).map(|word| word.first), Some(2));
        assert!(flow.of(3).is_none() && WordFlow::<u8>::default().nearest(pos2(0.0, 0.0)).is_none());
    }
}
