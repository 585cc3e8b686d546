//! Reads sets and numbers from text. The grammar is in `sets`.

use crate::spec::sets::{Name, Numbers, Place, Places, Range, Set, Term};

/// Reads a set from lower-case text.
///
/// # Errors
/// What is wrong, in words.
pub fn parse_set(text: &str) -> Result<Set, String> {
    let mut terms = Vec::new();
    let (mut minus, mut start, mut depth) = (false, 0, 0usize);
    for (at, c) in text.char_indices() {
        match c {
            '[' => depth += 1,
            ']' => depth = depth.saturating_sub(1),
            '+' | '-' if depth == 0 => {
                terms.push(parse_term(&text[start..at], minus)?);
                (minus, start) = (c == '-', at + 1);
            }
            _ => {}
        }
    }
    terms.push(parse_term(&text[start..], minus)?);
    Ok(Set(terms))
}

fn parse_term(text: &str, minus: bool) -> Result<Term, String> {
    let text = text.trim();
    // A `~` inside brackets belongs to a range.
    let after = text.rfind(']').map_or(0, |at| at + 1);
    let (body, rings) = match text[after..].find('~') {
        Some(at) => (text[..after + at].trim(), parse_number(&text[after + at + 1..])?),
        None => (text, 0),
    };
    let (word, places) = match body.split_once('[') {
        Some((word, rest)) => {
            let inside = rest.strip_suffix(']').ok_or_else(|| format!("`{body}` has no closing `]`"))?;
            (word.trim(), parse_places(inside)?)
        }
        None => (body, Places::All),
    };
    let name = Name::parse(word).ok_or_else(|| format!("`{word}` is none of {}", Name::WORDS))?;
    if name == Name::Pos && places == Places::All {
        return Err("`pos` needs positions, as in `pos[3-5]`".to_string());
    }
    Ok(Term { minus, name, places, rings })
}

fn parse_places(text: &str) -> Result<Places, String> {
    if text.trim() == "all" {
        return Ok(Places::All);
    }
    let place = |t: &str| match t.split_once(':') {
        None => parse_range(t).map(Place::Index),
        Some((rows, cols)) => Ok(Place::Cells(parse_between(rows)?, parse_between(cols)?)),
    };
    text.split(',').map(place).collect::<Result<_, _>>().map(Places::Of)
}

/// Reads numbers from lower-case text.
///
/// # Errors
/// What is wrong, in words.
pub fn parse_numbers(text: &str) -> Result<Numbers, String> {
    let text = text.trim();
    if text == "all" {
        return Ok(Numbers::All);
    }
    let (ranges, except) = text.strip_prefix('!').map_or((text, false), |rest| (rest, true));
    let ranges = ranges.split(',').map(parse_range).collect::<Result<_, _>>()?;
    Ok(if except { Numbers::Except(ranges) } else { Numbers::Of(ranges) })
}

fn parse_range(text: &str) -> Result<Range, String> {
    if let Some((centre, radius)) = text.split_once('~') {
        return Ok(Range::Around(parse_number(centre)?, parse_number(radius)?));
    }
    match text.trim().strip_suffix('-') {
        Some(first) => parse_number(first).map(Range::From),
        None => parse_between(text).map(|(a, b)| Range::Between(a, b)),
    }
}

fn parse_between(text: &str) -> Result<(usize, usize), String> {
    match text.split_once('-') {
        None => parse_number(text).map(|n| (n, n)),
        Some((a, b)) => match (parse_number(a)?, parse_number(b)?) {
            (a, b) if a <= b => Ok((a, b)),
            (a, b) => Err(format!("the range {a}-{b} runs backwards")),
        },
    }
}

fn parse_number(text: &str) -> Result<usize, String> {
    let text = text.trim();
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match text.parse::<u32>() {
        Ok(n) if digits => Ok(n as usize),
        _ => Err(format!("`{text}` is not a number")),
    }
}
