//! The three ways in which an object is asked for, and when an answer is right.
//!
//! `generative`: a description, right if it names the object's class. `polling`: "is there a duck?", right if the answer
//! begins with yes. `vqa`: what is somewhere, right if the first class that the answer names is the object's; where the
//! folder asks nothing of the kind, "What is this?" with an answer that begins "It is a". An answer without words is
//! wrong in every way. Knows texts; neither models nor images.

use crate::studies::{
    eval::{
        folder::{Agree, POLL, about},
        score::{ClassNames, is_right},
    },
    survey::subjects::Asked,
};

/// Asked of an object about which the folder has no question.
const WHAT: (&str, &str) = ("What is this?", "It is a");

/// A way to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prompt {
    /// A description of everything.
    Generative,
    /// Whether it is there.
    Polling,
    /// What is there.
    Vqa,
}

/// What is asked, and what the answer is to begin with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Its text.
    pub text: String,
    /// The answer's first words, which the model goes on from.
    pub begins: Option<&'static str>,
}

impl Prompt {
    /// All of them.
    pub const ALL: [Prompt; 3] = [Prompt::Generative, Prompt::Polling, Prompt::Vqa];

    /// What rows call it.
    pub fn name(self) -> &'static str {
        match self {
            Prompt::Generative => "generative",
            Prompt::Polling => "polling",
            Prompt::Vqa => "vqa",
        }
    }

    /// What is asked about an object of this class: in the folder's own words where it has some, `asked` of this image.
    /// `describing` asks for a description.
    pub fn question(self, describing: &str, asked: &[Asked], class: &str, names: &ClassNames) -> Question {
        let plain = |text: &str| Question { text: text.to_string(), begins: None };
        match self {
            Prompt::Generative => plain(describing),
            Prompt::Polling => {
                let poll = asked.iter().find(|one| {
                    let says_yes = self.is_right(one.answer.as_deref().unwrap_or_default(), class, names);
                    says_yes && is_poll(one) && names.find(&one.text) == [class]
                });
                poll.map_or_else(|| plain(&about(POLL, class)), |poll| plain(&poll.text))
            }
            Prompt::Vqa => {
                let fits = |one: &&Asked| {
                    let answer = names.find(one.answer.as_deref().unwrap_or_default());
                    answer == [class] && !names.find(&one.text).contains(&class)
                };
                // What is at the top, rather than what is left of the house: that is taken to be there.
                let own = asked.iter().filter(fits).min_by_key(|one| names.find(&one.text).len());
                let (text, begins) = WHAT;
                let this = || Question { begins: Some(begins), ..plain(text) };
                own.map_or_else(this, |own| plain(&own.text))
            }
        }
    }

    /// Whether an answer is right about an object of this class.
    pub fn is_right(self, answer: &str, class: &str, names: &ClassNames) -> bool {
        match self {
            Prompt::Generative => names.find(answer).contains(&class),
            Prompt::Polling => is_right(answer, "yes", Agree::FirstWord),
            Prompt::Vqa => names.find(answer).first() == Some(&class),
        }
    }
}

/// Whether a question asks if something is there, as far as its type says: "is the duck red?" does not.
fn is_poll(asked: &Asked) -> bool {
    ["", "exists"].contains(&asked.kind.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> ClassNames {
        ClassNames::new(&["duck", "apple", "house"].map(String::from))
    }

    fn asked(kind: &str, text: &str, answer: &str) -> Asked {
        Asked { kind: kind.to_string(), text: text.to_string(), answer: Some(answer.to_string()) }
    }

    #[test]
    fn an_answer_is_right_in_its_own_way_and_an_empty_one_never() {
        let right = |prompt: Prompt, answer: &str| prompt.is_right(answer, "duck", &names());
        for prompt in Prompt::ALL {
            assert!(!right(prompt, "") && !right(prompt, " . "), "{prompt:?}: nothing was said");
        }
        assert!(right(Prompt::Generative, "a house and two ducks on grass."));
        assert!(!right(Prompt::Generative, "a house on grass.") && !right(Prompt::Generative, "yes"));
        assert!(right(Prompt::Polling, "Yes, there is.") && !right(Prompt::Polling, "no. yes"));
        assert!(right(Prompt::Vqa, "a red duck") && !right(Prompt::Vqa, "a house beside a duck"));
    }

    #[test]
    fn the_folders_own_questions_come_first() {
        let own = [
            asked("color", "is the duck red?", "yes"),
            asked("exists", "is there a duck?", "yes"),
            asked("exists", "is there an apple?", "no"),
            asked("left_of", "what is left of the house?", "a duck"),
            asked("at", "what is at the top?", "a red duck"),
            asked("left_of", "what is left of the duck?", "a house"),
        ];
        let question = |prompt: Prompt, asked: &[Asked], class: &str| {
            let Question { text, begins } = prompt.question("describe.", asked, class, &names());
            (text, begins)
        };
        let plain = |text: &str| (text.to_string(), None);
        assert_eq!(question(Prompt::Generative, &own, "duck"), plain("describe."));
        assert_eq!(question(Prompt::Polling, &own, "duck"), plain("is there a duck?"));
        assert_eq!(question(Prompt::Vqa, &own, "duck"), plain("what is at the top?"));
        assert_eq!(question(Prompt::Vqa, &own[..4], "duck"), plain("what is left of the house?"));
        // Nothing is asked about an apple that is there.
        let usual = plain("Is there an apple in this image? Answer yes or no.");
        assert_eq!(question(Prompt::Polling, &own, "apple"), usual);
        assert_eq!(question(Prompt::Vqa, &own, "apple"), ("What is this?".to_string(), Some("It is a")));
    }
}
