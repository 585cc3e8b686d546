//! Text that people or models wrote, as part of a file's name.

use crate::files::sum;

/// Most bytes of text in a name. With what stands around it a name stays below 143 bytes, which the strictest
/// file systems take.
const LONGEST: usize = 96;

/// A text as part of a file's name: letters and digits as they are, `-` for all else, so that it leads nowhere and
/// hides nothing. A long one is cut, and ends with its sum: two that differ stay two.
pub fn part(text: &str) -> String {
    let safe: String = text.chars().map(|c| if c.is_alphanumeric() { c } else { '-' }).collect();
    if safe.len() <= LONGEST {
        return safe;
    }
    let sum = &sum::of_bytes(text.as_bytes())[..8];
    format!("{}-{sum}", &safe[..safe.floor_char_boundary(LONGEST - 9)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_text_becomes_a_short_name_that_stays_where_it_is() {
        assert_eq!(part("a duck"), "a-duck");
        assert_eq!(part("字符"), "字符");
        assert_eq!(part(""), "");
        let long = ["x".repeat(4000), "字".repeat(300), "../".repeat(200), "é/\0".repeat(90)];
        for text in
            long.iter().map(String::as_str).chain(["..", "../../etc", ".hidden", "a\0b", "/", "C:\\x"])
        {
            let name = part(text);
            assert!(name.len() <= LONGEST, "{} bytes", name.len());
            assert!(name.chars().all(|c| c.is_alphanumeric() || c == '-'), "{name}");
            assert_ne!(name, part(&format!("{text}!")));
        }
    }
}
