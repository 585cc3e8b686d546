//! Ablations: visual tokens overwritten at the decoder's input.
//!
//! Neo et al. (arXiv 2410.07149) overwrite the tokens of an object with the mean visual embedding and
//! see whether the model still names it. Holds the text form; the engine turns it into embeddings. Knows
//! nothing of tensors.
//!
//! # Grammar
//! ```text
//! ablation := set [ "& deepstack" ] "=" fill         "object~1 = mean"
//! fill     := "mean"                                 mean of this prompt's visual tokens
//!           | "zero"
//!           | "noise"                                Gaussian, with the mean and the standard deviation that this
//!                                                    prompt's visual tokens have in every dimension, a row a token
//!           | "mean:" DIR                            mean over the visual tokens of all images in DIR
//!           | "image:" FILE                          the token at the same place of another image
//! ```
//! `set` is that of [`crate::spec::sets`]; it may hold visual tokens only. The experiment's seed draws the noise. Some models (Qwen3-VL) add further features
//! of the image at its tokens after their first layers: an ablation leaves them, `& deepstack` removes them too.

use std::{fmt, path::PathBuf, str::FromStr};

use crate::spec::{parse::parse_set, sets::Set, text::as_text};

/// One ablation, as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ablation {
    /// Visual tokens.
    pub tokens: Set,
    /// What they become.
    pub fill: Fill,
    /// Whether what the model adds at them after its first layers is removed too.
    pub deepstack: bool,
}

/// Behind a set: what the model adds at its tokens is removed too.
const DEEPSTACK: &str = "& deepstack";

/// What an ablated token becomes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fill {
    /// The mean visual embedding of this prompt.
    Mean,
    /// Zeros.
    Zero,
    /// Gaussian noise with the mean and the standard deviation of this prompt's visual embeddings, dimension by
    /// dimension, drawn by the seed for every token.
    Noise,
    /// The mean visual embedding of all images of a folder.
    MeanOf(PathBuf),
    /// The embedding at the same place of another image.
    Image(PathBuf),
}

/// An ablation that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "ablation `{text}`: {why}; the form is SET = FILL, FILL being mean, zero, noise, mean:DIR or image:FILE, for example `object~1 = mean`; `SET & deepstack = FILL` removes the deepstack features too"
)]
pub struct AblationError {
    /// What was typed.
    pub text: String,
    /// What is wrong with it.
    pub why: String,
}

impl FromStr for Ablation {
    type Err = AblationError;

    fn from_str(text: &str) -> Result<Self, AblationError> {
        let fail = |why: String| AblationError { text: text.to_string(), why };
        let (tokens, fill) = text.split_once('=').ok_or_else(|| fail("there is no `=`".into()))?;
        let tokens = tokens.to_lowercase();
        let (tokens, deepstack) = match tokens.split_once('&') {
            Some((set, what)) if what.trim() == "deepstack" => (set, true),
            Some((_, what)) => return Err(fail(format!("`&{what}` is not `{DEEPSTACK}`"))),
            None => (tokens.as_str(), false),
        };
        let tokens = parse_set(tokens).map_err(fail)?;
        let fill = fill.trim();
        let fill = match fill.split_once(':') {
            Some(("mean", dir)) if !dir.trim().is_empty() => Fill::MeanOf(dir.trim().into()),
            Some(("image", file)) if !file.trim().is_empty() => Fill::Image(file.trim().into()),
            _ if fill.eq_ignore_ascii_case("mean") => Fill::Mean,
            _ if fill.eq_ignore_ascii_case("zero") => Fill::Zero,
            _ if fill.eq_ignore_ascii_case("noise") => Fill::Noise,
            _ => return Err(fail(format!("`{fill}` is no fill"))),
        };
        Ok(Ablation { tokens, fill, deepstack })
    }
}

impl fmt::Display for Ablation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let deepstack = if self.deepstack { " & deepstack" } else { "" };
        write!(f, "{}{deepstack} = {}", self.tokens, self.fill)
    }
}

impl fmt::Display for Fill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fill::Mean => f.write_str("mean"),
            Fill::Zero => f.write_str("zero"),
            Fill::Noise => f.write_str("noise"),
            Fill::MeanOf(dir) => write!(f, "mean:{}", dir.display()),
            Fill::Image(file) => write!(f, "image:{}", file.display()),
        }
    }
}

as_text!(Ablation);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_what_it_reads_and_keeps_the_case_of_paths() {
        for text in [
            "object~1 = mean",
            "visual - object = image:/tmp/A.png",
            "random[0-39] = mean:Dir",
            "sink = zero",
            "object~2 = noise",
            "object~1 & deepstack = mean",
        ] {
            assert_eq!(text.parse::<Ablation>().unwrap().to_string(), text);
        }
        for (text, part) in [
            ("object", "no `=`"),
            ("object = grey", "`grey` is no fill"),
            ("object = mean:", "no fill"),
            ("object = noise:3", "`noise:3` is no fill"),
            ("object & all = mean", "`& all ` is not `& deepstack`"),
            ("objct = mean", "`objct` is none of"),
        ] {
            let message = text.parse::<Ablation>().unwrap_err().to_string();
            assert!(message.contains(part), "{message}");
        }
    }
}
