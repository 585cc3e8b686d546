//! Right or wrong, how often, and how sure that is.
//!
//! Plain text and counts; knows neither models nor files.
//!
//! - Answers are compared in lower case, by their words: punctuation and blanks do not count.
//! - Rates have 95 % Wilson intervals.
//! - Descriptions are scored by the class names that stand in them, as multisets: every mention is one
//!   object. Precision, recall and F1 are over all images together, 0 where nothing can be counted,
//!   with 95 % bootstrap intervals over images.
//! - Beside each figure stands what the best answer that ignores the image would have reached.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use crate::statistics::interval::{Figure, Rate};
use crate::studies::eval::folder::Agree;

/// A text's words: lower case, letters and digits only.
pub fn words(text: &str) -> Vec<String> {
    let lower = text.to_lowercase();
    lower.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()).map(str::to_string).collect()
}

/// Whether an answer is right.
pub fn is_right(answer: &str, gold: &str, agree: Agree) -> bool {
    let (answer, gold) = (words(answer), words(gold));
    match agree {
        Agree::Whole => answer == gold,
        Agree::FirstWord => answer.first() == gold.first(),
    }
}

/// How much of an answer must agree with a right one of which nothing else is known: "Yes, there is." answers what asks
/// for yes or no.
pub fn agree(gold: &str) -> Agree {
    match words(gold).iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["yes" | "no"] => Agree::FirstWord,
        _ => Agree::Whole,
    }
}

/// The score of one type of question.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TypeScore {
    /// How often the answer was right.
    #[serde(flatten)]
    pub accuracy: Rate,
    /// The most frequent right answer.
    pub best_constant: String,
    /// How often it would have been right.
    pub best_constant_accuracy: f64,
}

/// Collects the answers to one type of question.
#[derive(Debug, Default)]
pub struct Tally {
    right: usize,
    gold: BTreeMap<String, usize>,
}

impl Tally {
    /// One more answer.
    pub fn add(&mut self, gold: &str, right: bool) {
        self.right += usize::from(right);
        *self.gold.entry(words(gold).join(" ")).or_default() += 1;
    }

    /// The score so far.
    pub fn score(&self) -> TypeScore {
        let n = self.gold.values().sum();
        // Of equals, the first in the alphabet.
        let best = self.gold.iter().rev().max_by_key(|&(_, &count)| count);
        let (best_constant, count) = best.map(|(text, &count)| (text.clone(), count)).unwrap_or_default();
        let best_constant_accuracy = Rate::new(count, n).value;
        TypeScore { accuracy: Rate::new(self.right, n), best_constant, best_constant_accuracy }
    }
}

/// Finds class names in a text.
#[derive(Debug, Default)]
pub struct ClassNames {
    /// Words of a name, and the name; longest first, so that a hot dog is no dog.
    names: Vec<(Vec<String>, String)>,
}

impl ClassNames {
    /// For these classes.
    pub fn new(classes: &[String]) -> Self {
        let mut names: Vec<(Vec<String>, String)> =
            classes.iter().map(|c| (words(c), c.clone())).filter(|(w, _)| !w.is_empty()).collect();
        names.sort_by_key(|(words, _)| std::cmp::Reverse(words.len()));
        ClassNames { names }
    }

    /// The classes named in a text, in order, once for every mention; whole words, plurals too.
    pub fn find(&self, text: &str) -> Vec<&str> {
        let text = words(text);
        let mut found = Vec::new();
        let mut rest = text.as_slice();
        while !rest.is_empty() {
            match self.names.iter().find(|(name, _)| starts_with(rest, name)) {
                Some((name, class)) => {
                    found.push(class.as_str());
                    rest = &rest[name.len()..];
                }
                None => rest = &rest[1..],
            }
        }
        found
    }
}

fn starts_with(text: &[String], name: &[String]) -> bool {
    let (Some(here), Some((last, before))) = (text.get(..name.len()), name.split_last()) else {
        return false;
    };
    here.starts_with(before) && here.last().is_some_and(|word| is_form_of(word, last))
}

/// A word, or its regular plural.
fn is_form_of(word: &str, name: &str) -> bool {
    match word.strip_prefix(name) {
        Some("" | "s" | "es") => true,
        _ => name.strip_suffix('y').is_some_and(|stem| word.strip_prefix(stem) == Some("ies")),
    }
}

/// Objects of one description, or of many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Objects {
    /// In the image.
    pub present: usize,
    /// In the text.
    pub said: usize,
    /// In both.
    pub found: usize,
}

impl Objects {
    /// Compares two multisets of classes.
    pub fn compare<S: AsRef<str>, T: AsRef<str>>(present: &[S], said: &[T]) -> Self {
        let mut left: HashMap<&str, usize> = HashMap::new();
        present.iter().for_each(|class| *left.entry(class.as_ref()).or_default() += 1);
        let mut found = 0;
        for class in said {
            if let Some(count) = left.get_mut(class.as_ref()).filter(|count| **count > 0) {
                *count -= 1;
                found += 1;
            }
        }
        Objects { present: present.len(), said: said.len(), found }
    }

    fn sum(self, other: Objects) -> Objects {
        Objects {
            present: self.present + other.present,
            said: self.said + other.said,
            found: self.found + other.found,
        }
    }

    fn precision(self) -> f64 {
        Rate::new(self.found, self.said).value
    }

    fn recall(self) -> f64 {
        Rate::new(self.found, self.present).value
    }

    fn f1(self) -> f64 {
        Rate::new(2 * self.found, self.said + self.present).value
    }
}

/// How well descriptions name what is there.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DescriptionScore {
    /// Descriptions.
    pub n: usize,
    /// Objects in the images.
    pub objects: usize,
    /// Objects named.
    pub said: usize,
    /// Named objects that are there.
    pub found: usize,
    /// Share of the named objects that are there.
    pub precision: Figure,
    /// Share of the objects that are named.
    pub recall: Figure,
    /// Their harmonic mean.
    pub f1: Figure,
    /// F1 of the best list of objects that is the same for every image.
    pub best_constant_f1: f64,
    /// That list.
    pub best_constant: Vec<String>,
    /// Descriptions that are right word for word, where the right one is known.
    pub whole: Option<Rate>,
}

impl DescriptionScore {
    /// Scores descriptions: per image its objects' classes and the comparison with what was said;
    /// `whole` holds, for each right description that is known, whether the answer equals it.
    pub fn new(present: &[&[String]], compared: &[Objects], whole: &[bool]) -> Self {
        let all = compared.iter().fold(Objects::default(), |a, b| a.sum(*b));
        let (best_constant, best_constant_f1) = best_constant(present);
        DescriptionScore {
            n: compared.len(),
            objects: all.present,
            said: all.said,
            found: all.found,
            precision: bootstrap(compared, Objects::precision),
            recall: bootstrap(compared, Objects::recall),
            f1: bootstrap(compared, Objects::f1),
            best_constant_f1,
            best_constant,
            whole: (!whole.is_empty())
                .then(|| Rate::new(whole.iter().filter(|right| **right).count(), whole.len())),
        }
    }
}

/// A figure of all images together.
fn bootstrap(images: &[Objects], figure: impl Fn(Objects) -> f64) -> Figure {
    Figure::bootstrap(images, |images| figure(images.fold(Objects::default(), Objects::sum)))
}

/// The list of objects that has the best F1 when said of every image. A class's k-th mention is right
/// in the images that hold at least k of it, so the best list of any length takes the best mentions.
fn best_constant(images: &[&[String]]) -> (Vec<String>, f64) {
    let mut hits: BTreeMap<(&str, usize), usize> = BTreeMap::new();
    for image in images {
        let mut counts: HashMap<&str, usize> = HashMap::new();
        for class in *image {
            let count = counts.entry(class).or_default();
            *count += 1;
            *hits.entry((class, *count)).or_default() += 1;
        }
    }
    let mut mentions: Vec<(&str, usize)> = hits.iter().map(|(&(class, _), &hit)| (class, hit)).collect();
    mentions.sort_by_key(|&(_, hit)| std::cmp::Reverse(hit));
    let present = images.iter().map(|image| image.len()).sum();
    let (mut best, mut length, mut found) = (0.0, 0, 0);
    for (n, (_, hit)) in mentions.iter().enumerate() {
        found += hit;
        let f1 = Objects { present, said: (n + 1) * images.len(), found }.f1();
        if f1 > best {
            (best, length) = (f1, n + 1);
        }
    }
    (mentions[..length].iter().map(|(class, _)| class.to_string()).collect(), best)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(words: &[&str]) -> Vec<String> {
        words.iter().map(|w| w.to_string()).collect()
    }

    #[test]
    fn a_yes_or_no_may_be_explained() {
        assert_eq!([agree("No."), agree("no dog")], [Agree::FirstWord, Agree::Whole]);
    }

    #[test]
    fn answers_are_compared_by_their_words() {
        assert!(is_right(" Top  left.\n", "top left", Agree::Whole));
        assert!(!is_right("top", "top left", Agree::Whole));
        assert!(!is_right("", "nothing", Agree::Whole));
        assert!(is_right("Yes, there is a dog.", "yes", Agree::FirstWord));
        assert!(!is_right("", "yes", Agree::FirstWord));
    }

    #[test]
    fn the_best_constant_is_the_most_frequent_gold_answer() {
        let mut tally = Tally::default();
        tally.add("two", true);
        tally.add("One.", false);
        tally.add("one", false);
        tally.add("two", true);
        tally.add("nine", false);
        let score = tally.score();
        assert_eq!((score.best_constant.as_str(), score.best_constant_accuracy), ("one", 0.4));
        assert_eq!((score.accuracy.right, score.accuracy.n), (2, 5));
    }

    #[test]
    fn class_names_are_whole_words_longest_first_and_plural() {
        let names = ClassNames::new(&strings(&["dog", "hot dog", "butterfly", "bus", "T-shirt", "cat"]));
        assert_eq!(
            names.find("Two dogs, a hot dog and Butterflies; buses. A catalogue, a t-shirt, a dog"),
            ["dog", "hot dog", "butterfly", "bus", "T-shirt", "dog"]
        );
        assert!(names.find("").is_empty());
        assert!(names.find("hot").is_empty());
    }

    #[test]
    fn objects_are_compared_as_multisets() {
        let objects = Objects::compare(&["dog", "dog", "cat"], &["dog", "bus", "cat", "cat"]);
        assert_eq!(objects, Objects { present: 3, said: 4, found: 2 });
        assert_eq!((objects.precision(), objects.recall(), objects.f1()), (0.5, 2.0 / 3.0, 4.0 / 7.0));
    }

    #[test]
    fn descriptions_have_intervals_and_a_constant_to_beat() {
        let present = [strings(&["dog", "dog"]), strings(&["dog", "cat"]), strings(&["dog"])];
        let lists: Vec<&[String]> = present.iter().map(Vec::as_slice).collect();
        let compared: Vec<Objects> =
            lists.iter().map(|objects| Objects::compare(objects, &["dog"])).collect();
        let score = DescriptionScore::new(&lists, &compared, &[true, false, false]);
        assert_eq!((score.objects, score.said, score.found), (5, 3, 3));
        assert_eq!(score.precision, Figure { value: 1.0, low: 1.0, high: 1.0 });
        assert!(score.recall.low < 0.6 && score.recall.value == 0.6 && score.recall.high > 0.6);
        assert_eq!((score.best_constant, score.best_constant_f1), (strings(&["dog"]), 0.75));
        let none = DescriptionScore::new(&[], &[], &[]);
        assert_eq!((none.f1.value, none.best_constant_f1, none.whole), (0.0, 0.0, None));
    }
}
