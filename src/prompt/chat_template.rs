//! Chat templates: Jinja as transformers renders it, and where the users' texts end up in the result.
//!
//! Knows nothing of tokenizers, spans or images; a placeholder for an image is just text that the
//! template writes.
//!
//! Templates are written for Python's Jinja. What they use beyond minijinja is added here: methods of
//! Python's strings and dicts, `raise_exception`, `strftime_now`, `tojson`, the `generation` tag, and
//! message contents that can be iterated as parts or printed as text.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Enumerator, Object, ObjectRepr, ValueKind, from_args};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, State, UndefinedBehavior, Value, context};

use super::{Content, PromptError, Turn};

/// A compiled template.
#[derive(Debug)]
pub struct ChatTemplate {
    env: Environment<'static>,
    source: String,
    bos_token: String,
    eos_token: String,
}

/// A conversation as the template wrote it.
#[derive(Debug, PartialEq)]
pub struct Rendered {
    /// The whole text.
    pub text: String,
    /// Byte ranges of the texts of the conversation, in the order of `text`, each with the index of
    /// the text among all texts of the conversation. Everything else is the template's own.
    pub typed: Vec<(Range<usize>, usize)>,
}

impl ChatTemplate {
    /// Compiles a template; the special tokens are what `bos_token` and `eos_token` write.
    pub fn new(source: &str, bos_token: &str, eos_token: &str) -> Result<ChatTemplate, PromptError> {
        let mut env = Environment::new();
        env.set_auto_escape_callback(|_| AutoEscape::None);
        env.set_undefined_behavior(UndefinedBehavior::Lenient);
        env.set_unknown_method_callback(python_method);
        env.add_function("raise_exception", |message: String| -> Result<Value, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, message))
        });
        env.add_function("strftime_now", |format: String| strftime(&format, SystemTime::now()));
        env.add_filter("tojson", |value: Value| -> Result<String, Error> {
            serde_json::to_string(&value)
                .map_err(|e| Error::new(ErrorKind::BadSerialization, "tojson failed").with_source(e))
        });
        // The whitespace rules that transformers sets.
        if let Ok(syntax) = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build() {
            env.set_syntax(syntax);
        }
        env.add_template_owned("chat", without_generation_tags(source))
            .map_err(|e| PromptError::Template { reason: describe(&e) })?;
        Ok(ChatTemplate {
            env,
            source: source.to_owned(),
            bos_token: bos_token.to_owned(),
            eos_token: eos_token.to_owned(),
        })
    }

    /// Writes the conversation, followed by the opening of the assistant's answer.
    ///
    /// The texts are found without searching for them: the template is rendered a second time with
    /// marks in their place. A mark holds a private-use character that occurs in no text and not in
    /// the template, so nothing that a user types can pass for one.
    pub fn render(&self, turns: &[Turn]) -> Result<Rendered, PromptError> {
        let texts: Vec<&str> = turns.iter().flat_map(|t| &t.content).filter_map(Content::text).collect();
        let text = self.fill(turns, &texts)?;
        let fence = ('\u{F0000}'..='\u{FFFFD}')
            .find(|&c| {
                ![&self.source, &self.bos_token, &self.eos_token].iter().any(|s| s.contains(c))
                    && !texts.iter().any(|t| t.contains(c))
            })
            .ok_or(PromptError::TextRewritten)?;
        let marks: Vec<String> = (0..texts.len()).map(|i| format!("{fence}{i}{fence}")).collect();
        let marked = self.fill(turns, &marks.iter().map(String::as_str).collect::<Vec<_>>())?;
        // Alternately the template's own text and the number between two fences.
        let pieces: Vec<&str> = marked.split(fence).collect();
        let mut typed = Vec::new();
        if pieces.len().is_multiple_of(2) || !align(&text, 0, &pieces, &texts, &mut typed) {
            return Err(PromptError::TextRewritten);
        }
        Ok(Rendered { text, typed })
    }

    /// Renders with `texts` in place of the conversation's texts.
    fn fill(&self, turns: &[Turn], texts: &[&str]) -> Result<String, PromptError> {
        let mut texts = texts.iter();
        let messages: Vec<Value> = turns
            .iter()
            .map(|turn| {
                let parts = turn.content.iter().map(|part| match part {
                    Content::Image => context! { type => "image" },
                    Content::Text(_) => {
                        context! { type => "text", text => texts.next().copied().unwrap_or_default() }
                    }
                });
                let content = Value::from_object(Parts(parts.collect()));
                context! { role => turn.role.name(), content }
            })
            .collect();
        self.env
            .get_template("chat")
            .and_then(|template| {
                template.render(context! {
                    messages,
                    add_generation_prompt => true,
                    bos_token => self.bos_token.as_str(),
                    eos_token => self.eos_token.as_str(),
                })
            })
            .map_err(|e| PromptError::Template { reason: describe(&e) })
    }
}

/// Walks `text` along the pieces of the marked rendering from byte `at` on: the template's own pieces
/// must follow each other literally, with the texts between them, as they are or stripped of
/// surrounding whitespace, which is all that templates do to them.
fn align(
    text: &str,
    at: usize,
    pieces: &[&str],
    texts: &[&str],
    typed: &mut Vec<(Range<usize>, usize)>,
) -> bool {
    let Some((own, rest)) = pieces.split_first() else { return false };
    if !text[at..].starts_with(own) {
        return false;
    }
    let at = at + own.len();
    let Some((mark, rest)) = rest.split_first() else { return at == text.len() };
    let Some((index, full)) = mark.parse().ok().and_then(|i: usize| Some((i, *texts.get(i)?))) else {
        return false;
    };
    let mut candidates = vec![full, full.trim(), full.trim_start(), full.trim_end()];
    candidates.dedup(); // most texts have nothing to strip: no need to try four times
    candidates.into_iter().any(|candidate| {
        if !text[at..].starts_with(candidate) {
            return false;
        }
        let (known, end) = (typed.len(), at + candidate.len());
        typed.push((at..end, index));
        let fits = align(text, end, rest, texts, typed);
        if !fits {
            typed.truncate(known);
        }
        fits
    })
}

/// A message's content: a list of parts that prints as their text. Templates iterate over it; those
/// that expect a string print it.
#[derive(Debug)]
struct Parts(Vec<Value>);

impl Object for Parts {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.0.get(key.as_usize()?).cloned()
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Seq(self.0.len())
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in &self.0 {
            if let Ok(text) = part.get_attr("text")
                && !text.is_undefined()
            {
                write!(f, "{text}")?;
            }
        }
        Ok(())
    }
}

/// `{% generation %} .. {% endgeneration %}` marks the assistant's text for training. Here it is a
/// condition that always holds.
fn without_generation_tags(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let (before, tag) = rest.split_at(start);
        out.push_str(before);
        let Some(end) = tag.find("%}") else {
            rest = tag;
            break;
        };
        let inner = &tag[2..end];
        match inner.trim_matches(['-', '+', ' ', '\t', '\n']) {
            "generation" => out.push_str(&format!("{{%{}%}}", inner.replace("generation", "if true"))),
            "endgeneration" => out.push_str(&format!("{{%{}%}}", inner.replace("endgeneration", "endif"))),
            _ => out.push_str(&tag[..end + 2]),
        }
        rest = &tag[end + 2..];
    }
    out + rest
}

/// An error with its causes, in one line.
fn describe(error: &Error) -> String {
    let mut out = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        out.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    out
}

/// The methods of Python's strings and dicts that chat templates call.
fn python_method(_: &mut State, value: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    let unknown = || Error::from(ErrorKind::UnknownMethod);
    if let Some(text) = value.as_str() {
        return string_method(text, method, args)?.ok_or_else(unknown);
    }
    if value.kind() == ValueKind::Map {
        let keys = || value.try_iter();
        return match method {
            "get" => {
                let (key, default): (Value, Option<Value>) = from_args(args)?;
                let found = value.get_item(&key)?;
                Ok(if found.is_undefined() { default.unwrap_or_else(|| Value::from(())) } else { found })
            }
            "keys" => Ok(keys()?.collect()),
            "values" => keys()?.map(|k| value.get_item(&k)).collect(),
            "items" => keys()?.map(|k| Ok(Value::from(vec![k.clone(), value.get_item(&k)?]))).collect(),
            _ => Err(unknown()),
        };
    }
    Err(unknown())
}

fn string_method(text: &str, method: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    let strip = |left: bool, right: bool| -> Result<Value, Error> {
        let (chars,): (Option<&str>,) = from_args(args)?;
        let drop = |c: char| chars.map_or(c.is_whitespace(), |set| set.contains(c));
        let text = if left { text.trim_start_matches(drop) } else { text };
        Ok(Value::from(if right { text.trim_end_matches(drop) } else { text }))
    };
    let capitalised = |word: &str| {
        let mut chars = word.chars();
        chars.next().map_or_else(String::new, |c| {
            c.to_uppercase().collect::<String>() + &chars.as_str().to_lowercase()
        })
    };
    Ok(Some(match method {
        "strip" => strip(true, true)?,
        "lstrip" => strip(true, false)?,
        "rstrip" => strip(false, true)?,
        "upper" => Value::from(text.to_uppercase()),
        "lower" => Value::from(text.to_lowercase()),
        "capitalize" => Value::from(capitalised(text)),
        "title" => Value::from(text.split(' ').map(capitalised).collect::<Vec<_>>().join(" ")),
        "startswith" => {
            let (prefix,): (&str,) = from_args(args)?;
            Value::from(text.starts_with(prefix))
        }
        "endswith" => {
            let (suffix,): (&str,) = from_args(args)?;
            Value::from(text.ends_with(suffix))
        }
        "replace" => {
            let (from, to): (&str, &str) = from_args(args)?;
            Value::from(text.replace(from, to))
        }
        "split" => {
            let (separator, most): (Option<&str>, Option<usize>) = from_args(args)?;
            match (separator, most) {
                (Some(s), Some(n)) => text.splitn(n + 1, s).map(Value::from).collect(),
                (Some(s), None) => text.split(s).map(Value::from).collect(),
                (None, _) => text.split_whitespace().map(Value::from).collect(),
            }
        }
        "join" => {
            let (parts,): (Value,) = from_args(args)?;
            Value::from(parts.try_iter()?.map(|v| v.to_string()).collect::<Vec<_>>().join(text))
        }
        _ => return Ok(None),
    }))
}

/// The date in UTC, by the codes that templates use.
fn strftime(format: &str, now: SystemTime) -> String {
    const MONTHS: [&str; 12] = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ];
    const DAYS: [&str; 7] = ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"];
    let seconds = now.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Civil date from days since 1970-01-01, in years that start in March.
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let month_name = MONTHS[(month - 1) as usize];
    let day_name = DAYS[(days % 7) as usize];
    let mut out = String::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('Y') => out.push_str(&year.to_string()),
            Some('m') => out.push_str(&format!("{month:02}")),
            Some('d') => out.push_str(&format!("{day:02}")),
            Some('B') => out.push_str(month_name),
            Some('b') => out.push_str(&month_name[..3]),
            Some('A') => out.push_str(day_name),
            Some('a') => out.push_str(&day_name[..3]),
            Some('H') => out.push_str(&format!("{:02}", second / 3600)),
            Some('M') => out.push_str(&format!("{:02}", second / 60 % 60)),
            Some('S') => out.push_str(&format!("{:02}", second % 60)),
            Some(other) => out.extend(['%', other]),
            None => out.push('%'),
        }
    }
    out
}
