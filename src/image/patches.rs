//! Pixels as rows of patches, in the order in which Qwen's encoder takes them.
//!
//! A row holds one patch: channel, frame, y, x; the frames of a still image are alike. Patches that become one
//! visual token follow each other: cell by cell of the grid of visual tokens, row by row, and row by row inside a
//! cell. Pixels are `[3, height, width]`. Knows numbers; nothing of tensors or files.

/// How an image is cut into patches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patches {
    /// Side of a patch in pixels.
    pub side: usize,
    /// Patches a side that become one visual token.
    pub merge: usize,
    /// Frames of a video that a patch spans.
    pub frames: usize,
}

impl Patches {
    /// Side of what one visual token shows, in pixels of the encoder's input.
    pub fn unit(self) -> usize {
        self.side * self.merge
    }

    /// Numbers of a patch.
    pub fn len(self) -> usize {
        3 * self.frames * self.side * self.side
    }

    /// Whether patches have none.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Row and column of every patch, in order, of so many patches down and across.
    pub fn places(self, [rows, cols]: [usize; 2]) -> Vec<[usize; 2]> {
        let m = self.merge;
        let cells = (0..rows / m).flat_map(move |row| (0..cols / m).map(move |col| [row * m, col * m]));
        let inside = move |[row, col]: [usize; 2]| (0..m * m).map(move |i| [row + i / m, col + i % m]);
        cells.flat_map(inside).collect()
    }

    /// `[patches, numbers of a patch]` of pixels whose width and height are whole visual tokens.
    ///
    /// # Panics
    /// If there are fewer pixels.
    pub fn rows(self, pixels: &[f32], (width, height): (u32, u32)) -> Vec<f32> {
        let (width, height, p) = (width as usize, height as usize, self.side);
        let mut out = Vec::with_capacity(width * height * 3 * self.frames);
        for [row, col] in self.places([height / p, width / p]) {
            for channel in 0..3 {
                for y in (0..self.frames).flat_map(|_| 0..p) {
                    let at = (channel * height + row * p + y) * width + col * p;
                    out.extend_from_slice(&pixels[at..at + p]);
                }
            }
        }
        out
    }

    /// [`Patches::rows`] backwards, from the first frame: the pixels of so many patches down and across.
    ///
    /// # Panics
    /// If there are fewer rows.
    pub fn pixels(self, rows: &[f32], down_and_across: [usize; 2]) -> Vec<f32> {
        let p = self.side;
        let [height, width] = down_and_across.map(|patches| patches * p);
        let mut out = vec![0.0; 3 * height * width];
        let places = self.places(down_and_across);
        for (patch, [row, col]) in rows.chunks_exact(self.len()).zip(places) {
            for (channel, frames) in patch.chunks_exact(self.frames * p * p).enumerate() {
                for (y, line) in frames.chunks_exact(p).take(p).enumerate() {
                    let at = (channel * height + row * p + y) * width + col * p;
                    out[at..at + p].copy_from_slice(line);
                }
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_follow_each_other_and_pixels_come_back() {
        let patches = Patches { side: 2, merge: 2, frames: 2 };
        let places = patches.places([2, 4]);
        assert_eq!(places, [[0, 0], [0, 1], [1, 0], [1, 1], [0, 2], [0, 3], [1, 2], [1, 3]]);
        // 4 x 8 pixels, numbered.
        let pixels: Vec<f32> = (0..3 * 32).map(|i| i as f32).collect();
        let rows = patches.rows(&pixels, (8, 4));
        assert_eq!(rows.len(), 8 * patches.len());
        assert_eq!(rows[patches.len()..][..8], [2.0, 3.0, 10.0, 11.0, 2.0, 3.0, 10.0, 11.0], "both frames");
        assert_eq!(rows[2 * patches.len() + 8..][..4], [48.0, 49.0, 56.0, 57.0], "green, second row");
        assert_eq!(patches.pixels(&rows, [2, 4]), pixels);
    }
}
