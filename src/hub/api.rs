//! What the hub says of a model: its commit, its licence, its files with their sizes and sums; and what its refusals
//! mean.
//!
//! Speaks through hf-hub, whose own retries are off: `patience` decides. Names that come from the server are refused
//! here if they would lead anywhere.

use std::{collections::BTreeMap, error::Error, time::Duration};

use futures_util::StreamExt as _;
use hf_hub::{HFClient, HFError, HFResult, repository::RepoTreeEntry};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use crate::hub::{
    error::HubError,
    id::{HubId, is_commit, is_hex},
    names,
    patience::Again,
};

/// Characters of a revision that are none in an address: all but letters, digits and these four.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Most files of a model that are listed.
const MOST_FILES: usize = 10_000;

/// A file of a model, on the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    /// Its name in the model.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// What its contents are called in the cache: their SHA-256, or git's sum.
    pub sum: String,
    /// Whether that is the SHA-256, which is then checked; of the others only the length is.
    pub is_sha256: bool,
}

/// A model, as the server describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// The commit that its revision stands at.
    pub commit: String,
    /// Its licence, as its card states it.
    pub licence: Option<String>,
    /// All of its files.
    pub files: Vec<Remote>,
}

/// What the server says of a model's revision: commit, licence, and the SHA-256 of large files by name.
pub async fn head(
    client: &HFClient,
    id: &HubId,
) -> HFResult<(Option<String>, Option<String>, BTreeMap<String, String>)> {
    // hf-hub has the sums of large files only in a form of this answer that it offers no switch for.
    let revision = utf8_percent_encode(id.revision(), ESCAPED);
    let name = format!("{}/revision/{revision}?blobs=true", id.name);
    let info = client.model(id.owner.as_str(), name).info().send().await?;
    let siblings = info.siblings.unwrap_or_default().into_iter();
    let sums = siblings.filter_map(|file| Some((file.rfilename, file.lfs?.sha256?))).collect();
    Ok((info.sha, info.card_data.as_ref().and_then(licence), sums))
}

/// The files of a model at a commit, as the server lists them.
pub async fn tree(client: &HFClient, id: &HubId, commit: &str) -> HFResult<Vec<RepoTreeEntry>> {
    let model = client.model(id.owner.as_str(), id.name.as_str());
    let list = model.list_tree().revision(commit.to_string()).recursive(true).limit(MOST_FILES).send()?;
    let mut list = Box::pin(list);
    let mut entries = Vec::new();
    while let Some(entry) = list.next().await {
        entries.push(entry?);
    }
    Ok(entries)
}

/// The licence in a model card's metadata.
fn licence(card: &Value) -> Option<String> {
    let text = |key: &str| match card.get(key)? {
        Value::String(text) => Some(text.clone()),
        Value::Array(all) => Some(all.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")),
        _ => None,
    };
    match (text("license"), text("license_name")) {
        (Some(licence), Some(name)) if licence == "other" => Some(name),
        (licence, _) => licence.filter(|licence| !licence.is_empty()),
    }
}

/// Puts together what the server said.
///
/// # Errors
/// [`HubError::Answer`] or [`HubError::Name`].
pub fn described(
    id: &HubId,
    endpoint: &str,
    commit: Option<String>,
    licence: Option<String>,
    sums: &BTreeMap<String, String>,
    tree: Vec<RepoTreeEntry>,
) -> Result<Described, HubError> {
    let fail = |why: String| HubError::Answer { id: id.clone(), endpoint: endpoint.to_string(), why };
    let commit = commit.filter(|commit| is_commit(commit));
    let commit = commit.ok_or_else(|| fail("it names no commit of 40 digits".to_string()))?;
    let mut files = Vec::new();
    for entry in tree {
        let (name, file) = match entry {
            RepoTreeEntry::File { path, oid, size, lfs, .. } => (path, Some((oid, size, lfs))),
            RepoTreeEntry::Directory { path, .. } => (path, None),
        };
        if let Some(why) = names::wrong(&name) {
            return Err(HubError::Name { id: id.clone(), name, why });
        }
        let Some((oid, size, lfs)) = file else { continue };
        let large = lfs.map(|lfs| lfs.sha256.or_else(|| sums.get(&name).cloned()).unwrap_or_default());
        let (sum, is_sha256) = match large {
            Some(sum) => (sum, true),
            None => (oid, false),
        };
        if !is_hex(&sum, if is_sha256 { 64 } else { 40 }) {
            return Err(fail(format!("`{name}` has the sum `{sum}`, expected hexadecimal digits")));
        }
        files.push(Remote { name, size, sum, is_sha256 });
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    if let Some(pair) = files.windows(2).find(|pair| pair[0].name == pair[1].name) {
        return Err(fail(format!("`{}` is listed twice", pair[0].name)));
    }
    Ok(Described { commit, licence, files })
}

/// The part of a refusal that matters.
struct Refusal {
    status: u16,
    /// The hub's own word for it.
    code: String,
    /// After a colon; may be empty.
    message: String,
    after: Option<Duration>,
}

fn refusal(error: &HFError) -> Option<Refusal> {
    let (context, after) = match error {
        HFError::Http { context }
        | HFError::AuthRequired { context }
        | HFError::Forbidden { context }
        | HFError::Conflict { context }
        | HFError::RepoNotFound { context: Some(context), .. }
        | HFError::RevisionNotFound { context: Some(context), .. }
        | HFError::EntryNotFound { context: Some(context), .. } => (context, None),
        HFError::RateLimited { retry_after, context } => (context, *retry_after),
        _ => return None,
    };
    // What a server writes is shown as one line, and not without end.
    let message = context.server_message.iter().flat_map(|text| text.chars());
    let message: String = message.map(|c| if c.is_control() { ' ' } else { c }).take(300).collect();
    let message = if message.trim().is_empty() { String::new() } else { format!(": {}", message.trim()) };
    let code = context.error_code.clone().unwrap_or_default();
    Some(Refusal { status: context.status.as_u16(), code, message, after })
}

/// The HTTP status of a refusal.
pub fn status(error: &HFError) -> Option<u16> {
    refusal(error).map(|refusal| refusal.status)
}

/// What a failure means: to try again, or an error. `file`: the file that was asked for, if it was one.
///
/// # Errors
/// What trying again would not mend.
pub fn fault(id: &HubId, endpoint: &str, file: Option<&str>, error: HFError) -> Result<Again, HubError> {
    let Some(Refusal { status, code, message, after }) = refusal(&error) else {
        return unanswered(id, endpoint, &error);
    };
    let (id, endpoint) = (id.clone(), endpoint.to_string());
    Err(match status {
        401 | 403 if status == 403 || code == "GatedRepo" => HubError::Forbidden { id, endpoint, message },
        401 => HubError::Unauthorized { id, endpoint, message },
        404 if code == "RevisionNotFound" => HubError::Revision { id },
        404 => match file {
            Some(file) => HubError::Gone { id, endpoint, file: file.to_string() },
            None => HubError::Unknown { id, endpoint },
        },
        408 | 429 | 500..=599 => return Ok(Again { why: format!("HTTP status {status}{message}"), after }),
        _ => HubError::Status { id, endpoint, status, message },
    })
}

/// What it means that no answer came, or none that can be read.
fn unanswered(id: &HubId, endpoint: &str, error: &HFError) -> Result<Again, HubError> {
    match error {
        HFError::Request { .. } | HFError::Io(_) => Ok(Again { why: deepest(error), after: None }),
        HFError::Xet { .. } => Ok(Again { why: whole(error), after: None }),
        _ => Err(HubError::Answer { id: id.clone(), endpoint: endpoint.to_string(), why: whole(error) }),
    }
}

/// The cause below all others: those above it only repeat the address.
fn deepest(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

/// An error and all of its causes, each once.
fn whole(error: &dyn Error) -> String {
    let mut why = error.to_string();
    let mut source = error.source();
    while let Some(deeper) = source {
        let text = deeper.to_string();
        if !why.contains(&text) {
            why = format!("{why}: {text}");
        }
        source = deeper.source();
    }
    why
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn files(entries: Value) -> Result<Vec<Remote>, HubError> {
        let tree = serde_json::from_value(entries).unwrap();
        let sums = BTreeMap::from([("large.safetensors".to_string(), "b".repeat(64))]);
        let commit = Some("0a".repeat(20));
        let described = described(&"a/b".parse().unwrap(), "http://hub", commit, None, &sums, tree)?;
        Ok(described.files)
    }

    #[test]
    fn large_files_have_their_sha256_and_small_ones_gits_sum() {
        let listed = json!([
            {"type": "directory", "oid": "x", "path": "sub"},
            {"type": "file", "oid": "a".repeat(40), "size": 3, "path": "sub/x.json"},
            {"type": "file", "oid": "a".repeat(40), "size": 9, "path": "large.safetensors",
             "lfs": {"oid": "b".repeat(64), "size": 9, "pointerSize": 130}},
        ]);
        let found = files(listed).unwrap();
        let sums: Vec<_> =
            found.iter().map(|f| (f.name.as_str(), f.size, f.sum.len(), f.is_sha256)).collect();
        assert_eq!(sums, [("large.safetensors", 9, 64, true), ("sub/x.json", 3, 40, false)]);
    }

    #[test]
    fn names_and_sums_that_lead_elsewhere_are_refused() {
        let of =
            |path: &str, oid: &str| files(json!([{"type": "file", "oid": oid, "size": 1, "path": path}]));
        let good = "a".repeat(40);
        for name in ["../x", "/etc/passwd", "a\\b", "a/../../b", "a\0"] {
            assert!(matches!(of(name, &good), Err(HubError::Name { .. })), "{name:?}");
        }
        for sum in ["../../../../../../../../../../etc/x12345678", "", "A"] {
            assert!(matches!(of("x", sum), Err(HubError::Answer { .. })), "{sum}");
        }
        let folder = files(json!([{"type": "directory", "oid": "x", "path": ".."}]));
        assert!(matches!(folder, Err(HubError::Name { .. })));
        let file = json!({"type": "file", "oid": good, "size": 1, "path": "x"});
        assert!(files(json!([file, file])).unwrap_err().to_string().contains("listed twice"));
        let unsummed = json!([{"type": "file", "oid": good, "size": 1, "path": "y", "lfs": {"size": 1}}]);
        assert!(matches!(files(unsummed), Err(HubError::Answer { .. })));
    }

    #[test]
    fn a_connection_that_fails_is_told_by_its_cause_alone() {
        let refused = std::io::Error::other("connection refused");
        let error = HFError::Io(std::io::Error::other(std::io::Error::other(refused)));
        let again = unanswered(&"a/b".parse().unwrap(), "http://hub", &error).unwrap();
        assert_eq!((again.why.as_str(), again.after), ("connection refused", None));
    }

    #[test]
    fn licences_are_read_from_the_card() {
        assert_eq!(licence(&json!({"license": "mit"})).as_deref(), Some("mit"));
        let named = json!({"license": "other", "license_name": "qwen-research"});
        assert_eq!(licence(&named).as_deref(), Some("qwen-research"));
        assert_eq!(licence(&json!({"license": ["mit", "apache-2.0"]})).as_deref(), Some("mit, apache-2.0"));
        assert_eq!(licence(&json!({"language": "en"})), None);
    }
}
