//! What a person may choose of a study, as plain data that study.json holds.
//!
//! A value that is left out is the study's own default, which depends on the model's size at most. Knows the grammar
//! of sets and layers; no model's tensors.

use serde::{Deserialize, Serialize};

use crate::{
    spec::{
        experiment::Intervention,
        knockout::Knockout,
        sets::{Numbers, Range, Set},
    },
    trace::run::ModelInfo,
};

/// Longest description, in tokens, where nothing is said.
pub const LENGTH: usize = 128;

/// Choices of a study. An empty list or `None` is the study's default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Asked of every image, instead of everything else that would be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// Longest answer, in tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub length: Option<usize>,
    /// Paths to cut, by study: `windows`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub flows: Vec<Flow>,
    /// Layers on either side of a window's centre: `windows`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub halves: Vec<usize>,
    /// Rings of neighbours that are cut with a patch: `effect`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rings: Option<usize>,
    /// Tokens that count as named by the lens: `lens`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top: Option<usize>,
    /// Numbers of visual tokens that are overwritten: `ablate`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub counts: Vec<usize>,
    /// What they are overwritten with, by name (`mean`, `zero`, `noise`): `ablate`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fills: Vec<String>,
    /// Whether tokens are ranked by gradient for every question, and not for descriptions alone: `ablate`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub gradients: bool,
    /// Percentages of the visual tokens that stay: `compress`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percents: Vec<f32>,
    /// The first layer that keeps few visual tokens, ranked in the layer before it: `compress`, the ranking `fastv`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fastv: Option<usize>,
    /// Layers from which on a path is cut: `knockout`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub from: Vec<usize>,
    /// Decides what is drawn.
    pub seed: u64,
}

/// A path to cut, without its layers: `answer -> visual`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Flow {
    /// Rows that lose sight.
    pub query: Set,
    /// Positions that they lose.
    pub key: Set,
}

impl Flow {
    /// The cut in a window of layers: `QUERY -> KEY @ centre~half`.
    pub fn around(&self, centre: usize, half: usize) -> Intervention {
        self.cut(Numbers::Of(vec![Range::Around(centre, half)]))
    }

    /// The cut in some layers.
    pub fn cut(&self, layers: Numbers) -> Intervention {
        let Flow { query, key } = self.clone();
        let cut = Knockout { query, key, layers, heads: Numbers::All };
        Intervention { knockouts: vec![cut], ablations: Vec::new() }
    }
}

impl std::str::FromStr for Flow {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.contains('@') || text.contains('#') {
            return Err(format!(
                "`{text}`: a flow has no layers and no heads; the study moves it through them"
            ));
        }
        let cut: Knockout = format!("{text} @ all").parse().map_err(|e| format!("`{text}`: {e}"))?;
        Ok(Flow { query: cut.query, key: cut.key })
    }
}

impl TryFrom<String> for Flow {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Flow> for String {
    fn from(flow: Flow) -> String {
        flow.to_string()
    }
}

impl std::fmt::Display for Flow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} -> {}", self.query, self.key)
    }
}

impl Settings {
    /// Longest answer, in tokens.
    pub fn length(&self) -> usize {
        self.length.unwrap_or(LENGTH)
    }

    /// Half-widths of windows: 0 and 1 on models of up to 12 layers, else 4.
    pub fn halves(&self, model: &ModelInfo) -> Vec<usize> {
        match (self.halves.is_empty(), model.n_layers) {
            (false, _) => self.halves.clone(),
            (true, 0..=12) => vec![0, 1],
            (true, _) => vec![4],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_is_a_cut_without_layers() {
        let flow: Flow = "answer -> visual".parse().unwrap();
        assert_eq!(flow.around(3, 1).to_string(), "answer -> visual @ 3~1");
        assert_eq!(flow.to_string().parse::<Flow>().unwrap(), flow);
        for wrong in ["answer -> visual @ 3", "answer", "answer -> nothing", "answer -> visual # 2"] {
            let error = wrong.parse::<Flow>().unwrap_err();
            assert!(error.contains(wrong), "{error}");
        }
    }

    #[test]
    fn settings_survive_their_file_and_name_what_is_unknown() {
        let settings = Settings {
            flows: vec!["last -> visual".parse().unwrap()],
            halves: vec![2],
            ..Settings::default()
        };
        let text = serde_json::to_string(&settings).unwrap();
        assert_eq!(text, r#"{"flows":["last -> visual"],"halves":[2],"seed":0}"#);
        assert_eq!(serde_json::from_str::<Settings>(&text).unwrap(), settings);
        let error = serde_json::from_str::<Settings>(r#"{"ring": 2}"#).unwrap_err().to_string();
        assert!(error.contains("ring"), "{error}");
    }
}
