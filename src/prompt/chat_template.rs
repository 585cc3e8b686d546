//! Chat templates: Jinja as transformers renders it, and where the users' texts end up in the result.
//!
//! Knows nothing of tokenizers, spans or images; a placeholder for an image is just text that the
//! template writes.
//!
//! Templates are written for Python's Jinja. What they use beyond minijinja is added here: methods of
//! Python's strings and dicts, `raise_exception`, `strftime_now`, `tojson`, the `generation` tag, and
//! message contents that can be iterated as parts or printed as text.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use std::{fmt, io, thread};

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Enumerator, Object, ObjectRepr, ValueKind, from_args};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, State, UndefinedBehavior, Value, context};

use crate::{
    prompt::error::PromptError,
    spec::turn::{Content, Role, Turn},
};

/// Longest template in bytes; the longest of real models have some 20,000.
const MAX_SOURCE: usize = 1 << 16;
/// What one rendering may use up, in minijinja's units: an instruction, or 64 bytes. A long
/// conversation needs some thousands. (One thing is not metered in time: a list that holds another one
/// twice, which holds another one twice, and so on, printed other than by `tojson`.)
const FUEL: u64 = 100_000;
/// Longest rendering in bytes, more than any model's context.
const MAX_TEXT: usize = 1 << 20;
/// minijinja goes down one call a level of what is nested. This is room for all that a template of
/// [`MAX_SOURCE`] or a value made with [`FUEL`] can nest.
const STACK: usize = 64 << 20;
/// Most places at which a template may write texts of the conversation.
const MAX_TYPED: usize = 1000;

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
        if source.len() > MAX_SOURCE {
            let reason = format!("it is {} bytes long, the limit is {MAX_SOURCE}", source.len());
            return Err(PromptError::Template { reason });
        }
        let mut env = Environment::new();
        env.set_fuel(Some(FUEL));
        env.set_auto_escape_callback(|_| AutoEscape::None);
        env.set_undefined_behavior(UndefinedBehavior::Lenient);
        env.set_unknown_method_callback(python_method);
        env.add_function("raise_exception", |message: String| -> Result<Value, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, message))
        });
        env.add_function("strftime_now", |format: String| strftime(&format, SystemTime::now()));
        env.add_filter("tojson", tojson);
        // The whitespace rules that transformers sets.
        if let Ok(syntax) = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build() {
            env.set_syntax(syntax);
        }
        with_stack(|| env.add_template_owned("chat", without_generation_tags(source)))?
            .map_err(|e| PromptError::Template { reason: describe(&e) })?;
        Ok(ChatTemplate {
            env,
            source: source.to_owned(),
            bos_token: bos_token.to_owned(),
            eos_token: eos_token.to_owned(),
        })
    }

    /// Writes the conversation, followed by the opening of the assistant's answer. An answer that is begun is written
    /// up to the end of its text, as transformers does with `continue_final_message`.
    pub fn render(&self, turns: &[Turn]) -> Result<Rendered, PromptError> {
        if turns.last().is_none_or(|turn| turn.role != Role::Assistant) {
            return self.written(turns, true);
        }
        let mut rendered = self.written(turns, false)?;
        let texts = turns.iter().flat_map(|turn| &turn.content).filter_map(Content::text).count();
        let last = rendered.typed.iter().rposition(|(_, index)| index + 1 == texts);
        let last = last.ok_or(PromptError::NotBegun)?;
        rendered.typed.truncate(last + 1);
        rendered.text.truncate(rendered.typed[last].0.end);
        Ok(rendered)
    }

    /// What it writes behind an answer, where nothing follows; `None` if it cannot write one down.
    pub fn after_answer(&self) -> Option<String> {
        let say = |role, text: &str| Turn { role, content: vec![Content::Text(text.to_owned())] };
        let turns = [say(Role::User, "question"), say(Role::Assistant, "answer")];
        let Rendered { mut text, typed } = self.written(&turns, false).ok()?;
        let (range, _) = typed.into_iter().rfind(|(_, index)| *index == 1)?;
        Some(text.split_off(range.end))
    }

    /// Writes the conversation; `open`: followed by the opening of the assistant's answer.
    ///
    /// The texts are found without searching for them: the template is rendered a second time with
    /// marks in their place. A mark holds a private-use character that occurs in no text and not in
    /// the template, so nothing that a user types can pass for one.
    fn written(&self, turns: &[Turn], open: bool) -> Result<Rendered, PromptError> {
        let texts: Vec<&str> = turns.iter().flat_map(|t| &t.content).filter_map(Content::text).collect();
        let text = self.fill(turns, &texts, open)?;
        let fence = ('\u{F0000}'..='\u{FFFFD}')
            .find(|&c| {
                ![&self.source, &self.bos_token, &self.eos_token].iter().any(|s| s.contains(c))
                    && !texts.iter().any(|t| t.contains(c))
            })
            .ok_or(PromptError::TextRewritten)?;
        let marks: Vec<String> = (0..texts.len()).map(|i| format!("{fence}{i}{fence}")).collect();
        let marked = self.fill(turns, &marks.iter().map(String::as_str).collect::<Vec<_>>(), open)?;
        // Alternately the template's own text and the number between two fences.
        let pieces: Vec<&str> = marked.split(fence).collect();
        if pieces.len() > 2 * MAX_TYPED {
            let (found, limit) = (pieces.len() / 2, MAX_TYPED);
            let reason = format!("it writes the conversation's texts {found} times, the limit is {limit}");
            return Err(PromptError::Template { reason });
        }
        if pieces.len().is_multiple_of(2) {
            return Err(PromptError::TextRewritten);
        }
        let mut aligned = Alignment { text: &text, texts: &texts, typed: Vec::new(), dead: HashSet::new() };
        if !aligned.extend(0, &pieces) {
            return Err(PromptError::TextRewritten);
        }
        let typed = aligned.typed;
        Ok(Rendered { text, typed })
    }

    /// Renders with `texts` in place of the conversation's texts.
    fn fill(&self, turns: &[Turn], texts: &[&str], open: bool) -> Result<String, PromptError> {
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
        let values = context! {
            messages,
            add_generation_prompt => open,
            bos_token => self.bos_token.as_str(),
            eos_token => self.eos_token.as_str(),
        };
        let render = || self.env.get_template("chat").and_then(|template| template.render(values));
        let text = with_stack(render)?.map_err(|e| PromptError::Template { reason: describe(&e) })?;
        if text.len() > MAX_TEXT {
            let reason = format!("it writes {} bytes, the limit is {MAX_TEXT}", text.len());
            return Err(PromptError::Template { reason });
        }
        Ok(text)
    }
}

/// Does the work on a thread with a stack of [`STACK`] bytes; memory is only taken for what is used.
fn with_stack<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, PromptError> {
    let failed = |reason: String| PromptError::Template { reason };
    thread::scope(|scope| {
        let worker = thread::Builder::new().stack_size(STACK).spawn_scoped(scope, work);
        let worker = worker.map_err(|e| failed(format!("no thread can be started for it ({e})")))?;
        worker.join().map_err(|_| failed("the template engine broke down".to_owned()))
    })
}

/// The search for the texts in a rendering.
struct Alignment<'a> {
    text: &'a str,
    texts: &'a [&'a str],
    /// What was found so far.
    typed: Vec<(Range<usize>, usize)>,
    /// Where the search came to nothing, as pieces left and byte: not to be searched again.
    dead: HashSet<(usize, usize)>,
}

impl Alignment<'_> {
    /// Walks the text along the pieces of the marked rendering from byte `at` on: the template's own
    /// pieces must follow each other literally, with the texts between them, as they are or stripped of
    /// surrounding whitespace, which is all that templates do to them.
    fn extend(&mut self, at: usize, pieces: &[&str]) -> bool {
        let Some((own, rest)) = pieces.split_first() else { return false };
        let start = at + own.len();
        if !self.text[at..].starts_with(own) {
            return false;
        }
        let Some((mark, rest)) = rest.split_first() else { return start == self.text.len() };
        let Some((index, full)) = mark.parse().ok().and_then(|i: usize| Some((i, *self.texts.get(i)?)))
        else {
            return false;
        };
        if self.dead.contains(&(rest.len(), start)) {
            return false;
        }
        let mut candidates = vec![full, full.trim(), full.trim_start(), full.trim_end()];
        candidates.dedup(); // most texts have nothing to strip: no need to try four times
        for candidate in candidates {
            if self.text[start..].starts_with(candidate) {
                let (known, end) = (self.typed.len(), start + candidate.len());
                self.typed.push((start..end, index));
                if self.extend(end, rest) {
                    return true;
                }
                self.typed.truncate(known);
            }
        }
        self.dead.insert((rest.len(), start));
        false
    }
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
        let Some(end) = tag[2..].find("%}").map(|end| end + 2) else {
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

/// An error with its causes, in one line, cut short where a template makes it long.
fn describe(error: &Error) -> String {
    if error.kind() == ErrorKind::OutOfFuel {
        return "it does not come to an end, or makes too much text".to_owned();
    }
    let mut out = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        out.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    match out.char_indices().nth(500) {
        Some((end, _)) => format!("{}...", &out[..end]),
        None => out,
    }
}

/// Python's `tojson`. What a list holds twice is written twice, so a small value can be a long text:
/// every byte takes fuel before it is there.
fn tojson(state: &State<'_, '_>, value: Value) -> Result<String, Error> {
    struct Metered<'a, 't, 'e>(&'a State<'t, 'e>, Vec<u8>);
    impl io::Write for Metered<'_, '_, '_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.consume_fuel(bytes.len().div_ceil(64) as u64).map_err(io::Error::other)?;
            self.1.extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut out = Metered(state, Vec::new());
    serde_json::to_writer(&mut out, &value)
        .map_err(|e| Error::new(ErrorKind::BadSerialization, "tojson failed").with_source(e))?;
    Ok(String::from_utf8_lossy(&out.1).into_owned())
}

/// The methods of Python's strings and dicts that chat templates call.
fn python_method(state: &mut State, value: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    let unknown = || Error::from(ErrorKind::UnknownMethod);
    if let Some(text) = value.as_str() {
        return match (method, args) {
            // The filters of these names meter what they make, which may be far longer than their input.
            ("replace", [from, to]) => {
                state.apply_filter("replace", &[value.clone(), from.clone(), to.clone()])
            }
            ("join", [parts]) => state.apply_filter("join", &[parts.clone(), value.clone()]),
            ("split", _) => {
                state.consume_fuel(text.len() as u64 / 8)?; // every byte may become a part
                split(text, args)
            }
            _ => string_method(text, method, args)?.ok_or_else(unknown),
        };
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
        _ => return Ok(None),
    }))
}

fn split(text: &str, args: &[Value]) -> Result<Value, Error> {
    let (separator, most): (Option<&str>, Option<i64>) = from_args(args)?;
    let most = most.and_then(|n| usize::try_from(n).ok()); // -1: no limit
    Ok(match (separator, most) {
        (Some(s), Some(n)) => text.splitn(n.saturating_add(1), s).map(Value::from).collect(),
        (Some(s), None) => text.split(s).map(Value::from).collect(),
        (None, _) => text.split_whitespace().map(Value::from).collect(),
    })
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
