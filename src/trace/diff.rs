//! Which words of two answers agree: a longest common subsequence, small and exact.
//!
//! Answers have at most some hundred tokens, so the quadratic table costs nothing.

/// For both sequences: whether each element is part of the longest common subsequence.
pub fn common<T: PartialEq>(a: &[T], b: &[T]) -> (Vec<bool>, Vec<bool>) {
    let width = b.len() + 1;
    // `[a.len() + 1, b.len() + 1]`: longest common subsequence of the two tails.
    let mut longest = vec![0u32; (a.len() + 1) * width];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            longest[i * width + j] = match a[i] == b[j] {
                true => longest[(i + 1) * width + j + 1] + 1,
                false => longest[(i + 1) * width + j].max(longest[i * width + j + 1]),
            };
        }
    }
    let (mut in_a, mut in_b) = (vec![false; a.len()], vec![false; b.len()]);
    let (mut i, mut j) = (0, 0);
    while i < a.len() && j < b.len() {
        if a[i] == b[j] {
            (in_a[i], in_b[j]) = (true, true);
            (i, j) = (i + 1, j + 1);
        } else if longest[(i + 1) * width + j] >= longest[i * width + j + 1] {
            i += 1;
        } else {
            j += 1;
        }
    }
    (in_a, in_b)
}

#[cfg(test)]
mod tests {
    use super::common;

    fn marks(a: &str, b: &str) -> (String, String) {
        let (a, b): (Vec<_>, Vec<_>) = (a.split_whitespace().collect(), b.split_whitespace().collect());
        let (in_a, in_b) = common(&a, &b);
        let show = |m: Vec<bool>| m.into_iter().map(|same| if same { '=' } else { 'x' }).collect();
        (show(in_a), show(in_b))
    }

    #[test]
    fn marks_what_changed_and_nothing_else() {
        assert_eq!(marks("a red bus", "a red bus"), ("===".into(), "===".into()));
        assert_eq!(marks("a red bus on sand", "a blue bus on sand"), ("=x===".into(), "=x===".into()));
        assert_eq!(marks("a duck", "a very big duck"), ("==".into(), "=xx=".into()));
        assert_eq!(marks("yes", "no"), ("x".into(), "x".into()));
        assert_eq!(marks("", "no"), (String::new(), "x".into()));
    }
}
