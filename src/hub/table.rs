//! Models that are known by name: what each costs, under which licence, and what was checked of it.
//!
//! The table is data, in assets/models.json. Sizes and counts of parameters that no file or publication at hand states
//! to the last digit are marked as estimates; what the hub itself says is shown before anything is fetched.

use serde::{Deserialize, Serialize};

use crate::hub::id::HubId;

/// The table.
const TABLE: &str = include_str!("../../assets/models.json");

/// A model that is known by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Known {
    /// What people call it.
    pub name: String,
    /// `org/name` on the hub.
    pub id: String,
    /// Its branch, tag or commit.
    pub revision: String,
    /// The `model_type` of its config.json.
    pub family: String,
    /// Numbers in its weights.
    pub parameters: u64,
    /// Whether that is exact, not an estimate.
    pub parameters_exact: bool,
    /// Bytes of its weight files.
    pub bytes: u64,
    /// Whether that is exact, not an estimate.
    pub bytes_exact: bool,
    /// Its licence, as far as it is known here; its card decides.
    pub licence: String,
    /// What was checked of it.
    pub checked: String,
}

impl Known {
    /// Its name on the hub; `None` where the table is wrong, which a test rules out.
    pub fn hub_id(&self) -> Option<HubId> {
        let id: HubId = self.id.parse().ok()?;
        Some(if self.revision == "main" { id } else { id.at(&self.revision) })
    }

    /// Bytes of its weights in memory, in a number format of so many bytes. A run takes more: the image's and the
    /// text's intermediate numbers, and what is recorded.
    pub fn memory(&self, bytes_a_number: u64) -> u64 {
        self.parameters * bytes_a_number
    }

    /// The number formats in which its weights fit into so much free memory, in words.
    pub fn fits(&self, available: Option<u64>) -> &'static str {
        match available {
            None => "?",
            Some(free) if self.memory(4) <= free => "f32, f16",
            Some(free) if self.memory(2) <= free => "f16",
            Some(_) => "no",
        }
    }
}

/// All of them.
pub fn known() -> Vec<Known> {
    // A test reads it: it is as sound as the program's own text.
    serde_json::from_str(TABLE).unwrap_or_default()
}

/// The one of a name on the hub, whatever its revision.
pub fn find(id: &HubId) -> Option<Known> {
    known().into_iter().find(|known| known.id == id.repository())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_table_is_sound() {
        let all: Vec<Known> = serde_json::from_str(TABLE).unwrap();
        assert!(all.len() >= 20);
        let ids: BTreeSet<HubId> = all.iter().map(|known| known.hub_id().unwrap()).collect();
        assert_eq!(ids.len(), all.len(), "no model twice");
        for known in &all {
            let name = &known.name;
            assert!(
                [&known.licence, &known.checked, &known.family].iter().all(|text| !text.is_empty()),
                "{name}"
            );
            // Weights are in 2 or 4 bytes a number.
            let bytes = known.bytes as f64 / known.parameters as f64;
            assert!((1.98..2.05).contains(&bytes) || (3.95..4.05).contains(&bytes), "{name}: {bytes}");
            assert_eq!(known.memory(2), 2 * known.parameters);
            let fits = [4, 3, 1].map(|bytes| known.fits(Some(bytes * known.parameters)));
            assert_eq!((fits, known.fits(None)), (["f32, f16", "f16", "no"], "?"));
            assert_eq!(find(&known.hub_id().unwrap().at("other")).as_ref(), Some(known));
        }
    }
}
