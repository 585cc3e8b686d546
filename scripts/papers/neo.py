"""Neo et al., arXiv 2410.07149: where an object lies among the visual tokens, and who takes it from there."""

from __future__ import annotations

from typing import Callable, Iterator

from papers.moving import curve, largest, level, losses, raw_losses
from papers.numbers import Cell, Means, Missing, Number, Pool, Undefined, depth, figure, in_percent, said, share
from papers.rules import Claim, above, below, between
from papers.study import Data

LLAVA = "LLaVA-1.5-7B"
AROUND, ALIKE = "object~1", "random like object~1"
PROMPTS = {
    "generative": ("a description", "71.8 %", "2.4 %"),
    "polling": ("\u201cis there a \u2026?\u201d", "51.3 %", "0 %"),
    "vqa": ("a question whose answer is the object", "86.7 %", "0 %"),
}
LEAST_NAMED = 0.01
TAKEN, LAST_ROW = "last -> object~1", "lastrow -> object~1"


def lost(data: Data) -> Iterator[tuple[str, str, str, int, str, bool]]:
    """Image, object, prompt, how many tokens, set, and whether the right answer turned wrong: behind the gate, tokens
    overwritten with the mean."""
    columns = ("image", "object", "prompt", "n", "set", "fill", "gate", "wrong")
    for image, thing, prompt, n, name, fill, gate, wrong in data.study("ablate").rows(*columns):
        if gate == "1" and fill == "mean":
            yield image, thing, prompt, int(n), name, wrong == "1"


def object_over_random(prompt: str) -> Callable[[Data], Number | Missing]:
    """How many more answers are lost with the object than with as many random tokens."""

    def measure(data: Data) -> Number | Missing:
        cells = (
            (image, name, float(wrong))
            for image, _, asked, _, name, wrong in lost(data)
            if asked == prompt and name in (AROUND, ALIKE)
        )
        number = figure(cells, lambda means: means[AROUND] - means[ALIKE])
        return number.said(
            "share of right answers that turn wrong with the object and one ring of patches overwritten, less "
            f"with as many random ones{each(data, prompt)}"
        )

    return measure


def each(data: Data, prompt: str) -> str:
    """The two shares that a difference is of."""
    means = Pool((row[0], row[4], float(row[5])) for row in lost(data) if row[2] == prompt).means()
    return f" ({said(means.get(AROUND))} less {said(means.get(ALIKE))})"


def random_harmless(prompt: str) -> Callable[[Data], Number | Missing]:
    """How many answers are lost with random tokens."""

    def measure(data: Data) -> Number | Missing:
        number = data.study("ablate").settled(
            share(
                (image, wrong)
                for image, _, asked, _, name, wrong in lost(data)
                if asked == prompt and name == ALIKE
            ),
            ALIKE,
        )
        return number.said(
            "share of right answers that turn wrong with as many random tokens overwritten as the object has "
            "with one ring"
        )

    return measure


def object_over(other: str) -> Callable[[Data], Number | Missing]:
    """How many more answers are lost with the object and its ring than with another set, all prompts together."""

    def measure(data: Data) -> Number | Missing:
        cells = (
            (image, name, float(wrong)) for image, _, _, _, name, wrong in lost(data) if name in (AROUND, other)
        )
        number = figure(cells, lambda means: means[AROUND] - means[other])
        return number.said(
            f"share of right answers that turn wrong with `{AROUND}` overwritten, less with `{other}`, all "
            "prompts together"
        )

    return measure


def object_over_gradient(data: Data) -> Number | Missing:
    """The same against at least as many tokens of the highest gradient."""
    rows = list(lost(data))
    sizes = {row[:3]: row[3] for row in rows if row[4] == AROUND}
    counts: dict[tuple[str, str, str], int] = {}
    for *asked, n, name, _ in rows:
        key = tuple(asked)
        if name == "gradient" and n >= sizes.get(key, n + 1):
            counts[key] = min(counts.get(key, n), n)
    cells = (
        (row[0], row[4], float(row[5]))
        for row in rows
        if row[:3] in counts and (row[4] == AROUND or row[4] == "gradient" and row[3] == counts[row[:3]])
    )
    number = figure(cells, lambda means: means[AROUND] - means["gradient"])
    return number.said(
        "share of right answers that turn wrong with the object and one ring overwritten, less with at least as "
        "many tokens of the highest integrated gradient"
    )


def taken_late(data: Data) -> Number | Missing:
    number = figure(losses(data, TAKEN), lambda means: middle_less_early(means))
    return number.said(
        f"share of the first token's probability that windows of `{TAKEN}` take whose centres lie between 0.45 "
        "and 0.8 of the depth, less what those below 0.3 take"
    )


def middle_less_early(means: Means) -> float:
    taken = curve(means, TAKEN)
    return level(taken, 0.45, 0.8) - level(taken, 0.0, 0.3)


def taken(data: Data) -> Number | Missing:
    number = figure(losses(data, TAKEN), lambda means: largest(means, TAKEN))
    return number.said(f"share of the first token's probability that the worst window of `{TAKEN}` takes")


def taken_in_all(data: Data) -> Number | Missing:
    n_layers = data.study("windows").n_layers
    spanned = (row for row in raw_losses(data, TAKEN) if row[2] - row[3] <= 0 and row[2] + row[3] >= n_layers - 1)
    cells = [(image, 0, loss) for image, _, _, _, loss in spanned]
    if not cells:
        return Missing("no window of the study spans all layers")
    number = figure(cells, lambda means: means[0])
    return number.said(f"share of the first token's probability that `{TAKEN}` in all layers takes")


def last_row(data: Data) -> Number | Missing:
    number = figure(losses(data, LAST_ROW), lambda means: largest(means, LAST_ROW))
    return number.said(f"share of the first token's probability that the worst window of `{LAST_ROW}` takes")


def named(data: Data) -> Iterator[Cell]:
    """How many patches, and how many of them name their object, keyed by kind of patch and layer; "" is any layer."""
    columns = ("image", "kind", "layer", "patches", "named")
    for image, kind, layer, patches, names in data.study("lens").rows(*columns):
        yield image, (kind, layer, "patches"), float(patches)
        yield image, (kind, layer, "named"), float(names)


def naming(means: Means, kind: str, layer: str) -> float:
    """The share of patches that name the object."""
    return means[kind, layer, "named"] / means[kind, layer, "patches"]


def by_depth(means: Means, n_layers: int) -> dict[float, float]:
    """The share of the object's patches that name it, by depth."""
    layers = [layer for kind, layer, part in means if kind == "object" and part == "named" and layer]
    return {depth(int(layer), n_layers): naming(means, "object", layer) for layer in layers}


def some_layer(data: Data) -> Number | Missing:
    number = figure(named(data), lambda means: naming(means, "object", ""))
    return number.said(
        "share of an object's patches at which the logit lens has its class among the first 5 tokens in some layer"
    )


def over_background(data: Data) -> Number | Missing:
    number = figure(named(data), lambda means: naming(means, "object", "") - naming(means, "background", ""))
    return number.said("the same share, less that of patches which show no object")


def best_layer(data: Data) -> Number | Missing:
    n_layers = data.study("lens").n_layers
    number = figure(named(data), lambda means: highest(by_depth(means, n_layers)))
    return number.said("depth of the layer in which most of an object's patches name it")


def highest(curve: dict[float, float]) -> float:
    """Where a curve is highest."""
    if max(curve.values(), default=0.0) < LEAST_NAMED:
        raise Undefined(
            f"in no layer as much as {in_percent(LEAST_NAMED)} of the objects' patches name their object"
        )
    return max(curve, key=curve.__getitem__)


def grows(data: Data) -> Number | Missing:
    n_layers = data.study("lens").n_layers

    def late_less_early(means: Means) -> float:
        shares = by_depth(means, n_layers)
        return level(shares, 2 / 3, 1.0) - level(shares, 0.0, 1 / 3)

    number = figure(named(data), late_less_early)
    return number.said(
        "share of an object's patches that name it in the late third of the layers, less in the early third"
    )


LENS = ("lens",)
LENS_NOTE = "Of the bundled model: no loss taught it to put words at visual positions (`assets/model/README.md`)."


def ablations() -> Iterator[Claim]:
    """Two claims a prompt."""
    for prompt, (words, object_lost, random_lost) in PROMPTS.items():
        yield Claim(
            "N",
            "An object's own tokens hold it: overwriting them, one ring of neighbours included, loses the "
            f"object in {words}; random ones do not.",
            f"{object_lost} lost with 33 tokens, {random_lost} with 40 random ones; {LLAVA}",
            object_over_random(prompt),
            above(0),
            ("ablate",),
            "Tokens are overwritten with the mean over the images; objects without which the picture gives the "
            "same answer do not count.",
        )
    for prompt, (words, _, random_lost) in PROMPTS.items():
        yield Claim(
            "N",
            f"Random tokens are hardly missed in {words}.",
            f"{random_lost} lost with 40 of 576; {LLAVA}",
            random_harmless(prompt),
            below(0.1),
            ("ablate",),
            "Where an image has few visual tokens, as many random ones are a larger part of it than theirs, and "
            "hit objects more often.",
        )


CLAIMS = (
    *ablations(),
    Claim(
        "N",
        "Neighbouring tokens hold some of the object: with one ring more is lost than without.",
        f"more is lost with the ring; {LLAVA}",
        object_over("object"),
        above(0),
        ("ablate",),
    ),
    Claim(
        "N",
        "Register tokens, of unusual norm, do not hold it.",
        f"less is lost than with the object's; {LLAVA}",
        object_over("register"),
        above(0),
        ("ablate",),
        "Where an image has no such token, it has no row of this kind.",
    ),
    Claim(
        "N",
        "The object's place tells better than gradients which tokens hold it.",
        f"less is lost than with the object's; {LLAVA}",
        object_over_gradient,
        above(0),
        ("ablate",),
    ),
    Claim(
        "N",
        "The last position takes something from the object's tokens directly.",
        "relative accuracy 0.82 with the object and one ring cut in layers 15 to 24 of 32; " f"{LLAVA}",
        taken,
        above(0.02),
        ("windows", "answer"),
        "Ours is the fall of a probability and not of accuracy, and that of the worst window.",
    ),
    Claim(
        "N",
        "Cut in all layers, it takes more answers still, and not all.",
        f"relative accuracy 0.67; {LLAVA}",
        taken_in_all,
        between(0.02, 0.9),
        ("windows", "answer"),
    ),
    Claim(
        "N",
        "It does so in the middle to late layers.",
        f"0.82 with layers 15 to 24 of 32 cut; {LLAVA}",
        taken_late,
        above(0),
        ("windows", "answer"),
    ),
    Claim(
        "N",
        "The last row of visual tokens does not gather the object for it.",
        f"1.00 in every window; {LLAVA}",
        last_row,
        below(0.02),
        ("windows", "answer"),
    ),
    Claim(
        "N",
        "The logit lens reads the object's name off many of its patches.",
        f"23.7 % of object patches in some layer; {LLAVA}",
        some_layer,
        above(0.1),
        LENS,
        LENS_NOTE,
    ),
    Claim(
        "N",
        "It does so off the object's patches and not off any.",
        f"23.7 %, found on COCO's objects; {LLAVA}",
        over_background,
        above(0),
        LENS,
        "The background is our control.",
    ),
    Claim("N", "Patches become words layer by layer.", f"more in later layers; {LLAVA}", grows, above(0), LENS),
    Claim(
        "N",
        "Most patches name their object in the last third of the layers.",
        f"best near layer 26 of 33, at .8 of the depth; {LLAVA}",
        best_layer,
        above(2 / 3),
        LENS,
    ),
)
