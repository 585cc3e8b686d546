//! What is said and asked about a scene. Lower case, few words, one right answer each.

use crate::scenes::backgrounds::Background;
use crate::scenes::objects::{Tint, class_name, classes};
use crate::scenes::place::{Direction, Neighbour, Place, neighbour};
use crate::scenes::scene::{Question, QuestionType, SceneObject};
use crate::statistics::dice::Dice;

const NUMBERS: [&str; 20] = [
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
    "twenty",
];

/// "a red duck" or "a duck".
fn named(object: &SceneObject) -> String {
    match object.color {
        Some(color) => format!("a {} {}", color.name(), class_name(object.class)),
        None => format!("a {}", class_name(object.class)),
    }
}

/// "a red duck at the top left, a bus at the center and a cake at the right on grass."
pub(super) fn description(objects: &[SceneObject], background: Background) -> String {
    let mut text = String::new();
    for (i, object) in objects.iter().enumerate() {
        if i > 0 {
            text += if i + 1 == objects.len() { " and " } else { ", " };
        }
        text += &format!("{} at the {}", named(object), object.place.name());
    }
    format!("{text} on {}.", background.name())
}

/// Every question that has one clear answer, in a fixed order; questions answered "no" or "nothing" are drawn
/// so that they do not outnumber the others.
pub(super) fn questions(
    dice: &mut Dice,
    objects: &[SceneObject],
    background: Background,
    size: u32,
) -> Vec<Question> {
    let mut asked = Asked(Vec::new());
    let is_unique = |object: &SceneObject| objects.iter().filter(|o| o.class == object.class).count() == 1;
    let unique: Vec<usize> = (0..objects.len()).filter(|&i| is_unique(&objects[i])).collect();

    let mut absent: Vec<usize> =
        (0..classes().len()).filter(|&class| objects.iter().all(|o| o.class != class)).collect();
    let mut yes = unique.clone();
    while !yes.is_empty() {
        let class = objects[dice.draw(&mut yes)].class;
        asked.push(QuestionType::Exists, format!("is there a {}?", class_name(class)), "yes");
        let other = dice.draw(&mut absent);
        asked.push(QuestionType::Exists, format!("is there a {}?", class_name(other)), "no");
    }
    for object in unique.iter().map(|&i| &objects[i]) {
        let name = class_name(object.class);
        if let Some(color) = object.color {
            asked.push(QuestionType::Color, format!("what color is the {name}?"), color.name());
        }
        asked.push(QuestionType::Where, format!("where is the {name}?"), object.place.name());
    }
    relations(dice, &mut asked, objects, &unique, size);
    if let Some(number) = objects.len().checked_sub(1).and_then(|n| NUMBERS.get(n)) {
        asked.push(QuestionType::Count, "how many objects are there?".into(), number);
    }
    asked.push(QuestionType::Background, "what is the background?".into(), background.name());
    places(dice, &mut asked, objects);
    asked.0
}

struct Asked(Vec<Question>);

impl Asked {
    fn push(&mut self, kind: QuestionType, question: String, answer: &str) {
        self.0.push(Question { kind, question, answer: answer.to_owned() });
    }
}

/// Left of and above: all that have an answer, and for each two of them (or now and then for none) one that is
/// answered "nothing".
fn relations(dice: &mut Dice, asked: &mut Asked, objects: &[SceneObject], unique: &[usize], size: u32) {
    let centers: Vec<[f32; 2]> = objects.iter().map(|o| o.center).collect();
    for (direction, kind, words) in
        [(Direction::Left, QuestionType::LeftOf, "left of"), (Direction::Above, QuestionType::Above, "above")]
    {
        let mut nothing = Vec::new();
        let mut answered = 0;
        for &from in unique {
            let question = format!("what is {words} the {}?", class_name(objects[from].class));
            match neighbour(&centers, from, direction, size) {
                Neighbour::Object(found) => {
                    answered += 1;
                    asked.push(kind, question, &format!("a {}", class_name(objects[found].class)));
                }
                Neighbour::Nothing => nothing.push(question),
                Neighbour::Unclear => {}
            }
        }
        let mut room = answered / 2 + usize::from(dice.chance(0.15));
        while room > 0 && !nothing.is_empty() {
            asked.push(kind, dice.draw(&mut nothing), "nothing");
            room -= 1;
        }
    }
}

/// What is at the top left? Every place that holds one object, and half as many that hold nothing.
fn places(dice: &mut Dice, asked: &mut Asked, objects: &[SceneObject]) {
    let mut empty = Vec::new();
    let mut answered = 0;
    for place in Place::all() {
        let question = format!("what is at the {}?", place.name());
        let mut here = objects.iter().filter(|o| o.place == place);
        match (here.next(), here.next()) {
            (None, _) => empty.push(question),
            (Some(object), None) => {
                answered += 1;
                asked.push(QuestionType::At, question, &named(object));
            }
            _ => {}
        }
    }
    let mut room = usize::div_ceil(answered, 2);
    while room > 0 && !empty.is_empty() {
        asked.push(QuestionType::At, dice.draw(&mut empty), "nothing");
        room -= 1;
    }
}

pub(super) fn words() -> Vec<&'static str> {
    let mut words: Vec<&'static str> =
        "a above and are at background color how image describe the this is left \
        many no nothing objects of on there what where yes"
            .split_whitespace()
            .collect();
    words.extend(Place::all().flat_map(|place| place.name().split(' ')));
    words.extend(NUMBERS.iter().take(9));
    words.extend(Tint::ALL.iter().map(|tint| tint.name()));
    words.extend(Background::ALL.iter().map(|background| background.name()));
    words.extend(classes());
    words.sort_unstable();
    words.dedup();
    words
}
