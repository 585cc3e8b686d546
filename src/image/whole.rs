//! Whether an image file goes on to where it says it ends.
//!
//! Asked of the formats whose decoder makes a picture of what is there, or makes room for what is not. Knows
//! containers; no pixels.

use image::ImageFormat;

/// Why a file is no whole image, if its container says so.
pub(super) fn cut_short(format: ImageFormat, bytes: &[u8]) -> Option<&'static str> {
    match format {
        ImageFormat::Jpeg if !jpeg_is_whole(bytes) => Some("it is cut short: its end marker is missing"),
        ImageFormat::WebP if !riff_is_whole(bytes) => Some("it ends before one of its chunks does"),
        _ => None,
    }
}

/// Whether a JPEG has its end marker, the image's own: that of a thumbnail lies inside a segment. The decoder
/// fills what is missing with grey; Pillow refuses. What follows the marker is nobody's.
fn jpeg_is_whole(bytes: &[u8]) -> bool {
    let (mut at, mut scanned) = (0, false);
    loop {
        let Some(rest) = bytes.get(at..) else { return false };
        // Pixels hold stuffed zeros and restart markers; a marker may be led in by any number of 0xFF.
        let marks = |pair: &[u8]| pair[0] == 0xFF && !matches!(pair[1], 0x00 | 0xD0..=0xD7 | 0xFF);
        let Some(found) = rest.windows(2).position(marks) else { return false };
        let segment = &rest[found + 2..];
        at += found + 2;
        match rest[found + 1] {
            0xD9 => return true,
            // Within the pixels another image begins: this one broke off.
            0xD8 if scanned => return false,
            0x01 | 0xD8 => {} // alone, without a segment
            marker => match segment.first_chunk() {
                Some(length) => {
                    scanned |= marker == 0xDA;
                    at += usize::from(u16::from_be_bytes(*length));
                }
                None => return false,
            },
        }
    }
}

/// Whether the chunks of a RIFF file (WebP) lie inside it: the decoder makes room for as many bytes of
/// metadata as a chunk declares, up to 4 GB, before it looks for them.
fn riff_is_whole(bytes: &[u8]) -> bool {
    let length = |at: usize| Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?) as usize);
    let end = length(4).unwrap_or(0).saturating_add(8).min(bytes.len());
    let mut at = 12;
    while at + 8 <= end {
        let Some(next) = length(at + 4).and_then(|size| size.checked_add(at + 8)) else { return false };
        if next > bytes.len() {
            return false;
        }
        at = next + next % 2;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jpeg_is_whole_from_its_own_end_marker_on() {
        // A thumbnail with markers of its own inside a segment, a scan with a restart and a stuffed zero, and
        // a marker that is led in by more than one 0xFF.
        let head = [0xFF, 0xD8, 0xFF, 0xE1, 0, 6, 0xFF, 0xD8, 0xFF, 0xD9, 0xFF, 0xFF, 0xDA, 0, 3, 1];
        let scan = [7, 0xFF, 0x00, 9, 0xFF, 0xD0, 0x12];
        let file = [&head[..], &scan, &[0xFF, 0xD9]].concat();
        assert!(jpeg_is_whole(&file) && jpeg_is_whole(&[&file[..], b"more"].concat()));
        for end in 0..file.len() {
            assert!(!jpeg_is_whole(&file[..end]), "the first {end} bytes");
        }
        assert!(!jpeg_is_whole(&[&file[..file.len() - 2], &[0; 99]].concat()), "filled up with zeros");
        let half = &file[..file.len() - 4];
        assert!(!jpeg_is_whole(&[half, &file[..]].concat()), "half of one before a whole one");
        assert!(jpeg_is_whole(&[&file[..], &file[..]].concat()), "one after the other");
    }
}
