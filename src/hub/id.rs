//! Names of models as people write them: `org/name`, `org/name@revision`.
//!
//! Knows which characters the hub allows. A name becomes part of a path and of an address: nothing else passes.

use std::{fmt, str::FromStr};

/// Longest owner or name, as on the hub.
const LONGEST: usize = 96;

/// Longest revision.
const LONGEST_REVISION: usize = 200;

/// A model of the hub.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HubId {
    /// Who has it.
    pub owner: String,
    /// Its name there.
    pub name: String,
    /// Branch, tag or commit; `main` if `None`.
    pub revision: Option<String>,
}

impl HubId {
    /// `org/name`, without its revision.
    pub fn repository(&self) -> String {
        format!("{}/{}", self.owner, self.name)
    }

    /// The revision that is meant.
    pub fn revision(&self) -> &str {
        self.revision.as_deref().unwrap_or("main")
    }

    /// Its name, with no more of a commit than tells it from others.
    pub fn short(&self) -> String {
        let revision = self.revision.as_deref();
        match revision.filter(|revision| is_commit(revision)).and_then(|commit| commit.get(..8)) {
            Some(begin) => format!("{}@{begin}", self.repository()),
            None => self.to_string(),
        }
    }

    /// The same model at a commit.
    pub fn at(&self, commit: &str) -> Self {
        HubId { revision: Some(commit.to_string()), ..self.clone() }
    }
}

/// A text that names no model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` names no model of the hub: {why}; expected org/name or org/name@revision")]
pub struct IdError {
    /// The text.
    pub text: String,
    /// What is wrong with it.
    pub why: String,
}

impl fmt::Display for HubId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.owner, self.name)?;
        self.revision.iter().try_for_each(|revision| write!(f, "@{revision}"))
    }
}

impl FromStr for HubId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let fail = |why: &str| IdError { text: text.to_string(), why: why.to_string() };
        let (repository, revision) = match text.split_once('@') {
            Some((repository, revision)) => (repository, Some(revision)),
            None => (text, None),
        };
        let (owner, name) = repository.split_once('/').ok_or_else(|| fail("it has no `/`"))?;
        for part in [owner, name] {
            check(part, LONGEST, &['-', '_', '.']).map_err(|why| fail(&why))?;
            if part.contains("--") {
                return Err(fail("names have no `--`"));
            }
        }
        if let Some(revision) = revision {
            check(revision, LONGEST_REVISION, &['-', '_', '.', '/', '+']).map_err(|why| fail(&why))?;
            if revision.split('/').any(|part| part.is_empty() || part.starts_with('.')) {
                return Err(fail("no part of a revision is empty or begins with `.`"));
            }
        }
        let revision = revision.map(str::to_string);
        Ok(HubId { owner: owner.to_string(), name: name.to_string(), revision })
    }
}

/// Whether a part of a name has only characters that it may have.
fn check(part: &str, longest: usize, others: &[char]) -> Result<(), String> {
    let strange = |c: &char| !(c.is_ascii_alphanumeric() || others.contains(c));
    match part.chars().find(strange) {
        _ if part.is_empty() => Err("a part of it is empty".to_string()),
        _ if part.len() > longest => Err(format!("a part of it has more than {longest} characters")),
        Some(c) => Err(format!("it has the character {c:?}")),
        None if part.contains("..") => Err("it has `..` in it".to_string()),
        None if part.starts_with(['.', '-']) || part.ends_with(['.', '-']) => {
            Err("a part of it begins or ends with `.` or `-`".to_string())
        }
        None => Ok(()),
    }
}

/// Whether a revision is a commit: 40 hexadecimal digits.
pub fn is_commit(text: &str) -> bool {
    is_hex(text, 40)
}

/// Whether a text is so many hexadecimal digits: what may be a file's name in the cache.
pub(crate) fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_the_hub_has_them() {
        for text in
            ["a/b", "llava-hf/llava-1.5-7b-hf", "OpenGVLab/InternVL2-1B@main", "a/b@refs/pr/1", "a/b@v1.0"]
        {
            assert_eq!(text.parse::<HubId>().unwrap().to_string(), text);
        }
        let id: HubId = "a/b@refs/pr/1".parse().unwrap();
        assert_eq!((id.repository().as_str(), id.revision()), ("a/b", "refs/pr/1"));
        assert_eq!("a/b".parse::<HubId>().unwrap().revision(), "main");
        assert_eq!(
            (id.short(), id.at(&"0a".repeat(20)).short()),
            (id.to_string(), "a/b@0a0a0a0a".to_string())
        );
    }

    #[test]
    fn nothing_that_leads_elsewhere_is_a_name() {
        let wrong = [
            "",
            "a",
            "a/",
            "/b",
            "a/b/c",
            "../b",
            "a/..",
            "a/b@",
            "a/b@../../x",
            "a/b@/etc",
            "a/b@x//y",
            "a/b@.git",
            "a b/c",
            "a/b?x=1",
            "a/b#c",
            "a\\b/c",
            "a/b@x\0",
            "a--b/c",
            "./b",
            "~/b",
            "a/b%2f",
            "a/b@x@y",
        ];
        for text in wrong {
            assert!(text.parse::<HubId>().is_err(), "{text:?}");
        }
        assert!(format!("a/{}", "b".repeat(97)).parse::<HubId>().is_err());
    }

    #[test]
    fn a_commit_is_forty_digits() {
        assert!(is_commit(&"0a".repeat(20)));
        for text in ["main", &"0A".repeat(20), &"0a".repeat(19), &"../".repeat(13)] {
            assert!(!is_commit(text), "{text}");
        }
    }
}
