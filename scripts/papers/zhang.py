"""Zhang et al., arXiv 2411.18620: where an answer's image information flows, and how the answer comes up."""

from __future__ import annotations

from itertools import chain
from typing import Iterator

from papers.moving import curve, largest, losses, place
from papers.numbers import Cell, Means, Missing, Number, Undefined, crossing, depth, figure
from papers.rules import Claim, above, below
from papers.study import Data

IMAGE, OBJECT, REST = "question -> visual", "question -> object~1", "question -> visual - object~1"
QUESTION, DIRECT = "last -> question", "last -> visual"
CURVES = "curves without numbers; LLaVA-1.5, LLaVA-1.6 and Llama3-LLaVA-NeXT, 7 to 13 billion"
NOTE = (
    "Theirs are questions of GQA, cut in windows of 7 or 9 layers. Of right answers alone, where the study "
    "`answer` "
    "was done."
)


def question_matters(data: Data) -> Number | Missing:
    number = figure(losses(data, QUESTION), lambda means: largest(means, QUESTION))
    return number.said(f"share of the first token's probability that the worst window of `{QUESTION}` takes")


def direct_less(data: Data) -> Number | Missing:
    number = figure(losses(data, DIRECT, QUESTION), lambda means: largest(means, DIRECT) - largest(means, QUESTION))
    return number.said(f"loss in the worst window of `{DIRECT}` less that of `{QUESTION}`")


def image_place(data: Data) -> Number | Missing:
    number = figure(losses(data, IMAGE), lambda means: place(means, IMAGE))
    return number.said(f"depth around which the losses of `{IMAGE}` lie")


def two_stages(data: Data) -> Number | Missing:
    number = figure(losses(data, IMAGE, QUESTION), lambda means: place(means, IMAGE) - place(means, QUESTION))
    return number.said(f"depth around which the losses of `{IMAGE}` lie, less that of `{QUESTION}`")


def whole_first(data: Data) -> Number | Missing:
    number = figure(losses(data, REST, OBJECT), lambda means: place(means, REST) - place(means, OBJECT))
    return number.said(f"depth around which the losses of `{REST}` lie, less that of `{OBJECT}`")


def question_place(data: Data) -> Number | Missing:
    number = figure(losses(data, QUESTION), lambda means: place(means, QUESTION))
    return number.said(f"depth around which the losses of `{QUESTION}` lie")


def probabilities(data: Data) -> Iterator[Cell]:
    """The right word's probability where the answer was right, keyed by case and depth."""
    study = data.study("answer")
    for image, case, right, layer, probability, correct in study.rows(
        "image", "case", "right", "layer", "probability", "correct"
    ):
        if right == "1" and correct == "1":
            yield image, (case, depth(int(layer), study.n_layers)), float(probability)


def arises(means: Means, case: str) -> float:
    """The depth by which a word has half of the probability that it has at its height."""
    heights = curve(means, case)
    if not heights:
        raise Undefined(f"no right answer's word has a token of its own in {case} case in this model")
    return crossing(heights, max(heights.values()) / 2)


def answer_arises(data: Data) -> Number | Missing:
    number = figure(probabilities(data), lambda means: arises(means, "lower"))
    return number.said(
        "depth by which the right word, in lower case, has half of its largest probability at the last position"
    )


def after_question(data: Data) -> Number | Missing:
    cells = chain(probabilities(data), losses(data, QUESTION))
    number = figure(cells, lambda means: arises(means, "lower") - place(means, QUESTION))
    return number.said(
        "depth by which the right word has half of its largest probability, less the depth around which the "
        f"losses of `{QUESTION}` lie"
    )


def lower_first(data: Data) -> Number | Missing:
    number = figure(probabilities(data), lambda means: arises(means, "lower") - arises(means, "upper"))
    return number.said(
        "depth by which the right word has half of its largest probability, in lower case less with a capital "
        "letter"
    )


WINDOWS, ANSWER = ("windows", "answer"), ("answer",)
CLAIMS = (
    Claim(
        "Z",
        "The last position takes the answer from the question's.",
        f"a sharp fall of the probability; {CURVES}",
        question_matters,
        above(0.1),
        WINDOWS,
        NOTE,
    ),
    Claim(
        "Z",
        "The last position takes next to nothing from the image itself.",
        f"nearly no fall; {CURVES}",
        direct_less,
        below(0),
        WINDOWS,
        NOTE,
    ),
    Claim(
        "Z",
        "The question takes in the image in the lower layers.",
        f"lower layers, in two stages; {CURVES}",
        image_place,
        below(0.5),
        WINDOWS,
        NOTE,
    ),
    Claim(
        "Z",
        "First the whole image is taken into the question, then the objects that it asks about.",
        f"lower layers, then lower to middle ones; {CURVES}",
        whole_first,
        below(0),
        WINDOWS,
        "The object is the first that question or answer names, with one ring of patches around it; the rest is "
        "the whole image but for these.",
    ),
    Claim(
        "Z",
        "The image enters the question before the question enters the last position.",
        CURVES,
        two_stages,
        below(0),
        WINDOWS,
        NOTE,
    ),
    Claim(
        "Z",
        "The question enters the last position in the middle layers or higher, not in the early ones.",
        CURVES,
        question_place,
        above(1 / 3),
        WINDOWS,
        NOTE,
    ),
    Claim(
        "Z",
        "The answer comes up at the last position in the middle layers or higher.",
        f"from about the middle on; {CURVES}",
        answer_arises,
        above(1 / 3),
        ANSWER,
        "Read with the final norm; theirs without.",
    ),
    Claim(
        "Z",
        "It comes up after the question has entered the last position.",
        CURVES,
        after_question,
        above(0),
        WINDOWS,
    ),
    Claim(
        "Z",
        "The answer comes up in lower case, and is given its capital letter in higher layers.",
        CURVES,
        lower_first,
        below(0),
        ANSWER,
    ),
)
