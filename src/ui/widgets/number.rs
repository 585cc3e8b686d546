//! Numbers as people read them: never rounded to a nought that they are not.
//!
//! Knows numbers; nothing of what they measure.

/// Three significant digits.
pub fn short(value: f32) -> String {
    match value {
        0.0 => "0".to_string(),
        v if v >= 0.1 => format!("{v:.3}"),
        v if v >= 0.001 => format!("{v:.4}"),
        v => format!("{v:.1e}"),
    }
}

/// A share in percent, however small: `12.3 %`, `0.0060 %`, `2.1e-7 %`.
pub fn percent(share: f32) -> String {
    match share * 100.0 {
        0.0 => "0 %".to_string(),
        p if p >= 0.1 => format!("{p:.1} %"),
        p if p >= 0.001 => format!("{p:.4} %"),
        p => format!("{p:.1e} %"),
    }
}

/// A probability by its natural logarithm: `0.0061 % (log -9.70)`.
pub fn probability(logprob: f32) -> String {
    let log = match logprob {
        l if l == 0.0 || l <= -0.01 => format!("{l:.2}"),
        l => format!("{l:.1e}"),
    };
    format!("{} (log {log})", percent(logprob.exp()))
}

/// A change, with its sign: `+0.31`, `-2.1e-5`.
pub fn signed(change: f32) -> String {
    match change {
        0.0 => "0".to_string(),
        c if c.abs() >= 0.01 => format!("{c:+.2}"),
        c => format!("{c:+.1e}"),
    }
}

/// A count in groups of three digits: `7 344`.
pub fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_is_not_nought() {
        assert_eq!(percent(6e-5), "0.0060 %");
        assert_eq!(percent(2.1e-9), "2.1e-7 %");
        assert_eq!(percent(0.0), "0 %");
        assert_eq!(percent(0.1234), "12.3 %");
        assert_eq!(short(6e-5), "6.0e-5");
        assert_eq!(
            (signed(-0.314), signed(2.1e-5), signed(0.0)),
            ("-0.31".into(), "+2.1e-5".into(), "0".into())
        );
        assert_eq!(probability(-9.7), "0.0061 % (log -9.70)");
        assert_eq!(probability(-9.7e-4), "99.9 % (log -9.7e-4)");
    }
}
