"""Kaduri et al., arXiv 2411.17491: what the prompt's text takes from an image, in which layers, and what is left.

F1 is that of the objects which a description under a cut names, against the model's own uncut one; counts of
all images are put together before it is taken, as the study does. A curve from layer L on has its place at L / layers,
and ends at 1 with nothing cut.
"""

from __future__ import annotations

from itertools import chain
from typing import Callable, Iterator

from papers.numbers import (
    Cell,
    Means,
    Missing,
    Number,
    Pool,
    Undefined,
    at,
    crossing,
    figure,
    in_percent,
    mean,
    said,
    third,
)
from papers.rules import Claim, above, below
from papers.study import Data

INTERN = "InternVL2-76B"
PROMPT = ("bos", "system", "markers", "question", "last")
GENERATED, TEXT, BOTH = "image -> generated", "image -> text", "image -> text + generated"
SPARED = "image -> generated (first token spared)"
UNCUT = "none"
LEAST_COST = 0.05
"""What a cut must cost before it is asked in which layers."""


def text_share(data: Data) -> Number | Missing:
    """The attention of the answer's rows to the prompt's text, that most layers reach."""
    sums: dict[tuple[str, str], float] = {}
    for image, query, layer, key, mass in data.study("share").rows("image", "query", "layer", "key", "mass"):
        if query == "answer" and key in PROMPT:
            sums[image, layer] = sums.get((image, layer), 0.0) + float(mass)
    number = figure(((image, layer, mass) for (image, layer), mass in sums.items()), of_most_layers)
    return number.said(
        "attention of the answer's rows to everything in the prompt that is not image, as much as more than half "
        "of "
        f"the layers reach{text_positions(data)}"
    )


def text_positions(data: Data) -> str:
    """How many of the prompt's positions are text, where the study `compress` tells it."""
    if "compress" not in data.studies:
        return ""
    number = figure(kept(data, "tokens"), lambda means: means["text only", 0.0] / means[FULL])
    return (
        "" if isinstance(number, Missing) else f" (it holds {in_percent(number.value)} of the prompt's positions)"
    )


def of_most_layers(means: Means) -> float:
    """What more than half of the layers reach."""
    return sorted(means.values(), reverse=True)[len(means) // 2]


def counts(data: Data) -> Iterator[Cell]:
    """Objects present, said and found of every description, against the model's own, keyed by cut and layers."""
    columns = ("image", "cut", "layers", "reference", "present", "said", "found")
    for image, cut, layers, reference, *of in data.study("knockout").rows(*columns):
        if reference == "own":
            for part, number in zip(("present", "said", "found"), of):
                yield image, (cut, layers, part), float(number)


def f1(means: Means, cut: str, layers: str) -> float:
    """F1 under a cut."""
    if (cut, layers, "found") not in means:
        raise Undefined(f"`{cut}` was not cut in layers {layers}")
    present, said, found = (means[cut, layers, part] for part in ("present", "said", "found"))
    return 2 * found / (present + said)


def in_all(cut: str) -> Callable[[Data], Number | Missing]:
    """F1 with a path cut in all layers."""

    def measure(data: Data) -> Number | Missing:
        return settled(data, cut, lambda means: f1(means, cut, "all"), f"F1 with `{cut}` cut in all layers")

    return measure


def with_window(cut: str) -> Callable[[Data], Number | Missing]:
    """Which part of what a path cut in all layers costs is not lost when the middle window stays open."""

    def measure(data: Data) -> Number | Missing:
        windows = sorted({layers for (layers,) in data.study("knockout").rows("layers") if layers.startswith("!")})
        if not windows:
            return Missing("the model has too few layers for some to lie outside the window")
        number = figure(counts(data), lambda means: recovered(means, cut, windows[0]))
        return number.said(
            f"part of the F1 that `{cut}` in all layers costs, which is not lost with layers {windows[0][1:]} open"
        )

    return measure


def recovered(means: Means, cut: str, layers: str) -> float:
    whole, none = f1(means, UNCUT, UNCUT), f1(means, cut, "all")
    if whole - none < LEAST_COST:
        raise Undefined(f"the cut in all layers takes less than {LEAST_COST} of F1: there is nothing to win back")
    return (f1(means, cut, layers) - none) / (whole - none)


def settled(data: Data, series: str, statistic: Callable[[Means], float], what: str) -> Number | Missing:
    """An F1, with the study's own interval where it has this figure."""
    study = data.study("knockout")
    number = figure(counts(data), statistic)
    return study.settled(number, series, images=True).said(what)


def text_worse(data: Data) -> Number | Missing:
    number = figure(counts(data), lambda means: f1(means, TEXT, "all") - f1(means, GENERATED, "all"))
    return number.said(f"F1 with `{TEXT}` cut in all layers, less with `{GENERATED}` cut")


def from_on(means: Means, cut: str, n_layers: int) -> dict[float, float]:
    """F1 by the depth from which on a path is cut."""
    curve = {1.0: f1(means, UNCUT, UNCUT), 0.0: f1(means, cut, "all")}
    for of, layers, part in means:
        if of == cut and part == "found" and layers[:-1].isdigit() and layers.endswith("-"):
            curve[int(layers[:-1]) / n_layers] = f1(means, cut, layers)
    return curve


def from_depth(cut: str, depth: float) -> Callable[[Data], Number | Missing]:
    """F1 with a path cut from a depth on."""

    def measure(data: Data) -> Number | Missing:
        n_layers = data.study("knockout").n_layers
        return settled(
            data,
            cut,
            lambda means: at(from_on(means, cut, n_layers), depth),
            f"F1 with `{cut}` cut from {in_percent(depth)} of the layers on, between the layers that were measured",
        )

    return measure


def rise(curve: dict[float, float], low: float, high: float) -> float:
    """Which part of a curve's rise from its first to its last point lies between two places."""
    whole = curve[1.0] - curve[0.0]
    if whole < LEAST_COST:
        raise Undefined(f"the cut in all layers takes less than {LEAST_COST} of F1: there is no rise to place")
    return (at(curve, high) - at(curve, low)) / whole


def rise_between(cut: str, low: float, high: float) -> Callable[[Data], Number | Missing]:
    """Which part of what a cut costs is lost between two depths."""

    def measure(data: Data) -> Number | Missing:
        n_layers = data.study("knockout").n_layers
        number = figure(counts(data), lambda means: rise(from_on(means, cut, n_layers), low, high))
        return number.said(
            f"part of the F1 that `{cut}` in all layers costs, which is lost between {in_percent(low)} and "
            f"{in_percent(high)} of "
            "the depth"
        )

    return measure


def half_rise(curve: dict[float, float]) -> float:
    rise(curve, 0.0, 1.0)
    return crossing(curve, (curve[0.0] + curve[1.0]) / 2)


def ceiling(_: Data) -> Missing:
    return Missing(
        "descriptions are greedy and objects are found by their names, so that the uncut description agrees with "
        "itself "
        "by construction"
    )


def text_earlier(data: Data) -> Number | Missing:
    n_layers = data.study("knockout").n_layers
    number = figure(
        counts(data),
        lambda means: half_rise(from_on(means, TEXT, n_layers)) - half_rise(from_on(means, GENERATED, n_layers)),
    )
    return number.said(
        f"depth from which on a cut of `{TEXT}` costs half of what it costs in all layers, less that of "
        f"`{GENERATED}`"
    )


def hits(data: Data) -> Iterator[Cell]:
    """Whether the peak of a word's attention is on its object or one patch beside it, keyed by third."""
    study = data.study("localise")
    for image, layer, near in study.rows("image", "layer", "near"):
        yield image, third(int(layer), study.n_layers), float(near)


def middle_hits(data: Data) -> Number | Missing:
    number = figure(hits(data), lambda means: means["middle"])
    return number.said(
        "share of words that name an object whose attention peaks on it or one patch beside it, in the middle "
        "third of the layers"
    )


def middle_best(data: Data) -> Number | Missing:
    number = figure(hits(data), lambda means: means["middle"] - max(means["early"], means["late"]))
    return number.said("the same share, less that of the better of the early and the late third")


def over_chance(data: Data) -> Number | Missing:
    chance = ((image, "chance", value) for image, _, _, value in data.study("localise").facts("near"))
    number = figure(chain(hits(data), chance), lambda means: means["middle"] - means["chance"])
    return number.said("the same share, less the share of all patches that would have counted")


def kept(data: Data, column: str = "right") -> Iterator[Cell]:
    """Whether later questions are answered rightly, or another column, keyed by context and by the percentage kept;
    visual tokens are those that the answer looked at most."""
    columns = ("image", "context", "rank", "percent", "question", column)
    for image, context, rank, percent, _, value in data.study("compress").rows(*columns):
        if rank in ("", "answer") and value:
            yield image, (context, float(percent)), float(value)


def part_kept(context: str, percent: float) -> Callable[[Data], Number | Missing]:
    """The accuracy against a short context, as a part of that against the whole one."""

    def measure(data: Data) -> Number | Missing:
        number = figure(kept(data), lambda means: means[context, percent] / means[FULL])
        return number.said(
            f"right answers to later questions against {short(context, percent)}, as a part of those against the "
            f"whole context{accuracies(data, context, percent)}"
        )

    return measure


def more_right(some: tuple[str, float], others: tuple[str, float]) -> Callable[[Data], Number | Missing]:
    """How much more accurate one context is than another."""

    def measure(data: Data) -> Number | Missing:
        number = figure(kept(data), lambda means: means[some] - means[others])
        return number.said(
            f"share of later questions that are answered rightly against {short(*some)}, less against "
            f"{short(*others)}"
        )

    return measure


def short(context: str, percent: float) -> str:
    return "the text alone" if context == "text only" else f"`{context}` with {percent:g} % of the visual tokens"


def accuracies(data: Data, context: str, percent: float) -> str:
    """The two shares that a part is of."""
    means = Pool(kept(data)).means()
    return f" ({said(means.get((context, percent)))} of {said(means.get(FULL))})"


def tokens_kept(data: Data) -> Number | Missing:
    number = figure(kept(data, "tokens"), lambda means: means["text + visual", 5.0] / means[FULL])
    return number.said("keys that a layer keeps of the text and 5 % of the visual tokens, as a part of all")


def remembered(data: Data) -> Number | Missing:
    """Whether the text alone answers what asks for yes or no better than a coin."""
    rows = data.study("compress").rows("image", "context", "question", "right")
    number = mean(
        (image, float(right))
        for image, context, question, right in rows
        if context == "text only" and right and question.lower().startswith("is there")
    )
    return number.said(
        "share of \u201cis there \u2026?\u201d that are answered rightly against the text alone; half of them "
        "are right by chance"
    )


FULL = ("full", 100.0)
KNOCKOUT, LOCALISE, COMPRESS = ("knockout",), ("localise",), ("compress",)
MME = f"mean of 10 MME tasks; {INTERN}"
WINDOW = (
    "The study leaves the window of the authors' code open, LLaVA's layers 4 to 20 of 32, in proportion; the "
    "numbers "
    f"beside it are of layers 20 to 40 of 80 of {INTERN}."
)
CEILING = "Theirs have a ceiling of about .85, as a language model judges them; ours of 1."
CLAIMS = (
    Claim(
        "K",
        "Answers look at the prompt's text more than at the image: in most layers it has over 60 % of their "
        "attention.",
        f"over 60 % in most layers, with under 5 % of the positions; {INTERN}",
        text_share,
        above(0.6),
        ("share",),
    ),
    Claim(
        "K",
        "Without image -> text in any layer the description names nothing of the image.",
        f"F1 0; {INTERN}",
        in_all(TEXT),
        below(0.1),
        KNOCKOUT,
        "Ours leaves the last prompt row its view of the image, which is the answer's first.",
    ),
    Claim(
        "K",
        "Without image -> generated in any layer the description still names objects: the prompt's text has "
        "taken them in.",
        f"F1 .38; {INTERN}",
        in_all(GENERATED),
        above(0.1),
        KNOCKOUT,
    ),
    Claim(
        "K",
        "The same where the answer's first token may still look, as the authors' code has it.",
        f"F1 .38; {INTERN}",
        in_all(SPARED),
        above(0.1),
        KNOCKOUT,
        "In the authors' code the row that predicts the first token is not cut.",
    ),
    Claim(
        "K", "Without either in any layer it names nothing.", f"F1 0; {INTERN}", in_all(BOTH), below(0.1), KNOCKOUT
    ),
    Claim(
        "K",
        "What the text takes in matters more than what the answer looks at.",
        f"F1 0 against .38; {INTERN}",
        text_worse,
        below(0),
        KNOCKOUT,
    ),
    Claim(
        "K",
        "The middle layers alone give most of what image -> text gives.",
        f".93 of it (F1 .80 with the window open, 0 without, .86 uncut); {INTERN}",
        with_window(TEXT),
        above(0.75),
        KNOCKOUT,
        WINDOW,
    ),
    Claim(
        "K",
        "The middle layers alone give most of what image -> generated gives.",
        f".80 of it (F1 .76 with the window open, .38 without, .855 uncut); {INTERN}",
        with_window(GENERATED),
        above(0.75),
        KNOCKOUT,
        WINDOW,
    ),
    Claim(
        "K",
        "The middle layers alone give most of what both give.",
        f".86 of it (F1 .72 with the window open, 0 without, .84 uncut); {INTERN}",
        with_window(BOTH),
        above(0.75),
        KNOCKOUT,
        WINDOW,
    ),
    Claim(
        "K",
        "Image -> text happens in early to middle layers: what it costs is lost before half of the depth.",
        f".93 of it (F1 0 from layer 0 on, .80 from 40 of 80 on, .86 from 70 on); {INTERN}",
        rise_between(TEXT, 0.0, 0.5),
        above(0.5),
        KNOCKOUT,
    ),
    Claim(
        "K",
        "Image -> generated happens in the middle layers: what it costs is lost between a quarter and half of "
        "the depth.",
        f".67 of it (F1 .39 from layer 0 on, .45 from 20, .76 from 40, .855 from 70 of 80 on); {INTERN}",
        rise_between(GENERATED, 0.25, 0.5),
        above(0.5),
        KNOCKOUT,
    ),
    Claim(
        "K",
        "The text takes the image in before the answer does.",
        f"half is lost at .33 of the depth against .42; {INTERN}",
        text_earlier,
        below(0),
        KNOCKOUT,
    ),
    Claim(
        "K",
        "Early layers alone do not suffice for image -> text.",
        f"F1 .01 from layer 20 of 80 on; {INTERN}",
        from_depth(TEXT, 0.25),
        below(0.2),
        KNOCKOUT,
    ),
    Claim(
        "K",
        "Early layers alone do not suffice for both.",
        f"F1 .06 from layer 20 of 80 on; {INTERN}",
        from_depth(BOTH, 0.25),
        below(0.2),
        KNOCKOUT,
    ),
    Claim(
        "K",
        "Image -> generated adds little after five eighths of the depth.",
        f"F1 .79 (of .855) from layer 50 of 80 on; {INTERN}",
        from_depth(GENERATED, 0.625),
        above(0.8),
        KNOCKOUT,
        CEILING,
    ),
    Claim(
        "K",
        "Late layers add next to nothing by either.",
        f"F1 .84 (of .84) from layer 60 of 80 on; {INTERN}",
        from_depth(BOTH, 0.75),
        above(0.9),
        KNOCKOUT,
        CEILING,
    ),
    Claim(
        "K",
        "Even late cuts leave a gap: the curves end at about .85.",
        f"F1 .84 to .86 from layer 70 of 80 on; {INTERN}",
        ceiling,
        below(0.9),
        KNOCKOUT,
    ),
    Claim(
        "K",
        "Words that name an object look at it in the middle layers.",
        f"73 % of words peak on it; {INTERN}",
        middle_hits,
        above(0.65),
        LOCALISE,
        "Theirs are objects of 80 COCO images that image -> generated loses, ours all that a description names "
        "and that are the only one of their class. 65 % is the most that they found elsewhere.",
    ),
    Claim("K", "They do so above chance.", f"73 % of words; {INTERN}", over_chance, above(0), LOCALISE),
    Claim(
        "K",
        "They do so there better than in early and late layers.",
        f"73 % against 30 to 65 %; {INTERN}",
        middle_best,
        above(0),
        LOCALISE,
    ),
    Claim(
        "K",
        "The text and 5 % of the visual tokens answer later questions nearly as the whole context does.",
        f"81.46 of 84.83 (.96), {MME}",
        part_kept("text + visual", 5.0),
        above(0.9),
        COMPRESS,
    ),
    Claim(
        "K",
        "So do 2 %, somewhat worse.",
        f"77.16 of 84.83 (.91), {MME}",
        part_kept("text + visual", 2.0),
        above(0.85),
        COMPRESS,
    ),
    Claim(
        "K", "Such a context is short.", f"201 of 1695 tokens (.12); {INTERN}", tokens_kept, below(0.2), COMPRESS
    ),
    Claim(
        "K",
        "The prompt's text alone answers some: it remembers the image.",
        f"61.03, with 50 by chance, {MME}",
        remembered,
        above(0.5),
        COMPRESS,
    ),
    Claim(
        "K",
        "It does not answer as the whole context does.",
        f"61.03 of 84.83 (.72), {MME}",
        part_kept("text only", 0.0),
        below(0.9),
        COMPRESS,
    ),
    Claim(
        "K",
        "A few visual tokens add much to it.",
        f"81.46 against 61.03, {MME}",
        more_right(("text + visual", 5.0), ("text only", 0.0)),
        above(0),
        COMPRESS,
    ),
    Claim(
        "K",
        "They do little without the text.",
        f"77.16 against 62.40 with 2 %, {MME}",
        more_right(("text + visual", 2.0), ("visual only", 2.0)),
        above(0),
        COMPRESS,
    ),
)
