"""Beyond the papers: whether attention says what matters.

What is often taken for granted when an attention map is read, put as claims and held against cuts.
"""

from __future__ import annotations

from itertools import chain, groupby
from typing import Iterator

from papers.numbers import Cell, Means, Missing, Number, figure, rank_correlation
from papers.rules import Claim, above, below
from papers.study import Data

CARRIERS = 0.1


def facts(data: Data, *names: str) -> Iterator[Cell]:
    """Facts of the study `effect`, keyed by their names."""
    for name in names:
        for image, _, _, value in data.study("effect").facts(name):
            yield image, name, value


def goes_with(data: Data) -> Number | Missing:
    """The rank correlation of attention and effect in its best layer."""
    cells = (
        (image, layer, value)
        for image, layer, head, value in data.study("effect").facts("correlation")
        if head is None
    )
    number = figure(cells, lambda means: max(means.values()))
    return number.said(
        "rank correlation over patches of a word's head-mean attention with the fall of its log probability when "
        "the patch is hidden, in the layer where it is highest"
    )


def on_object(data: Data) -> Number | Missing:
    number = figure(facts(data, "inside", "chance"), lambda means: means["inside"] - means["chance"])
    return number.said(
        "part of all falls of a word's log probability that lies on the object that it names, less the object's "
        "part of the patches"
    )


def object_over_random(data: Data) -> Number | Missing:
    number = figure(facts(data, "object", "random"), lambda means: means["object"] - means["random"])
    return number.said(
        "change of a word's log probability when its object is hidden from the answer, less when as many random "
        "patches are, in nats",
        "nats",
    )


def effect_finds(data: Data) -> Number | Missing:
    """How often the largest effect is on the object, less how often the peak of attention is in its best layer."""
    attention = (
        (image, layer, float(on)) for image, layer, on in data.study("localise").rows("image", "layer", "on")
    )
    number = figure(chain(facts(data, "peak"), attention), peak_less_best_layer)
    return number.said(
        "share of words whose largest effect lies on the object that they name, less the share whose attention "
        "peaks on it, in the layer where that is most often"
    )


def peak_less_best_layer(means: Means) -> float:
    return means["peak"] - max(share for key, share in means.items() if key != "peak")


def carriers(data: Data) -> Iterator[Cell]:
    """Which part of a token's falls the tenth of the patches carries that falls most."""
    rows = data.study("effect").rows("image", "token", "delta")
    for (image, _), of in groupby(rows, key=lambda row: row[:2]):
        falls = sorted((max(-float(delta), 0.0) for _, _, delta in of), reverse=True)
        whole = sum(falls)
        if whole > 0:
            yield image, 0, sum(falls[: round(len(falls) * CARRIERS)]) / whole


def few_carry(data: Data) -> Number | Missing:
    number = figure(carriers(data), lambda means: means[0])
    return number.said(
        "part of all falls of a token's log probability that a tenth of the patches makes, those of the largest "
        "fall; mean of all tokens"
    )


def heads(data: Data) -> Iterator[Cell]:
    """How much a head looks at the object, over chance, and what the word loses without it."""
    columns = ("image", "layer", "head", "inside", "chance", "delta")
    for image, layer, head, inside, chance, delta in data.study("heads").rows(*columns):
        if inside and float(chance) > 0:
            yield image, ("looks", layer, head), float(inside) / float(chance)
        yield image, ("falls", layer, head), -float(delta)


def lookers_matter(data: Data) -> Number | Missing:
    def correlation(means: Means) -> float:
        places = [key[1:] for key in means if key[0] == "looks"]
        return rank_correlation(
            [means["looks", *place] for place in places], [means["falls", *place] for place in places]
        )

    study = data.study("heads")
    number = figure(heads(data), correlation)
    return study.settled(number, "", images=True).said(
        "rank correlation over heads of the attention inside the object's mask over chance with the fall of the "
        "word's log probability when the head's view of the image is cut"
    )


def attention_ranks(data: Data) -> Number | Missing:
    """What ranking by the answer's attention is worth."""
    columns = ("image", "context", "rank", "percent", "right")
    cells = (
        (image, rank, float(right))
        for image, context, rank, percent, right in data.study("compress").rows(*columns)
        if context == "text + visual" and float(percent) == 5 and right
    )
    number = figure(cells, lambda means: means["answer"] - means["random"])
    return number.said(
        "share of later questions that are answered rightly against the text and the 5 % of the visual tokens "
        "that the answer looked at most, less against 5 % drawn at random"
    )


EFFECT, NONE = ("effect",), "\u2014"
CLAIMS = (
    Claim(
        "S",
        "Where a word looks is where it is hurt: attention goes with effect, patch by patch.",
        NONE,
        goes_with,
        above(0.5),
        EFFECT,
        "The bound is ours: above it, one map may be read for the other.",
    ),
    Claim("S", "What a word depends on lies on the object that it names.", NONE, on_object, above(0), EFFECT),
    Claim(
        "S",
        "Hiding the object hurts its word more than hiding as many random patches.",
        NONE,
        object_over_random,
        below(0),
        EFFECT,
    ),
    Claim(
        "S",
        "The largest effect finds the object more often than the peak of attention does.",
        NONE,
        effect_finds,
        above(0),
        ("effect", "localise"),
    ),
    Claim("S", "A tenth of the patches carries most of a token's effect.", NONE, few_carry, above(0.5), EFFECT),
    Claim(
        "S",
        "Heads that look at the named object are the heads that matter.",
        NONE,
        lookers_matter,
        above(0),
        ("heads",),
    ),
    Claim(
        "S",
        "Attention tells which visual tokens later questions need.",
        NONE,
        attention_ranks,
        above(0),
        ("compress",),
    ),
)
