"""Curves of the study `windows`: what a cut in a window of layers takes from the first token's probability.

A loss is 1 - p cut / p uncut, of the widest windows that were measured. Where the study `answer` says which questions
were answered rightly, of those alone, as the papers have it.
"""

from __future__ import annotations

from typing import Iterator, Mapping

from papers.numbers import Cell, Means, Undefined, centroid, depth, in_percent
from papers.study import Data

LEAST = 0.01
"""Where no window takes so much, it is not said where a path is needed."""


def right(data: Data) -> set[tuple[str, str]] | None:
    """The questions that were answered rightly; nothing where that is not known."""
    if "answer" not in data.studies:
        return None
    rows = data.study("answer").rows("image", "question", "correct")
    answered = {(image, question): correct == "1" for image, question, correct in rows}
    return {asked for asked, correct in answered.items() if correct} if answered else None


def raw_losses(data: Data, *flows: str) -> Iterator[tuple[str, str, int, int, float]]:
    """The losses of some flows: image, flow, the window's centre and half-width, and the loss."""
    of = right(data)
    columns = ("image", "question", "flow", "centre", "half", "first_ratio")
    for image, question, flow, centre, half, ratio in data.study("windows").rows(*columns):
        if flow in flows and (of is None or (image, question) in of):
            yield image, flow, int(centre), int(half), -float(ratio)


def losses(data: Data, *flows: str) -> Iterator[Cell]:
    """The losses of some flows in the widest windows, keyed by flow and by the depth of the window's centre."""
    n_layers = data.study("windows").n_layers
    rows = list(raw_losses(data, *flows))
    widest = max((half for _, _, _, half, _ in rows), default=0)
    for image, flow, centre, half, loss in rows:
        if half == widest:
            yield image, (flow, depth(centre, n_layers)), loss


def curve(means: Means, name: object) -> dict[float, float]:
    """The part of some means that is one curve: by place."""
    return {key[1]: height for key, height in means.items() if isinstance(key, tuple) and key[0] == name}


def largest(means: Means, flow: str) -> float:
    """What the window takes that takes most."""
    losses = curve(means, flow)
    if not losses:
        raise Undefined(f"`{flow}` was not cut")
    return max(losses.values())


def place(means: Means, flow: str) -> float:
    """Around which depth the losses of a flow lie."""
    if largest(means, flow) < LEAST:
        raise Undefined(f"no window of `{flow}` takes as much as {in_percent(LEAST)} of the answer's probability")
    return centroid(curve(means, flow))


def level(curve: Mapping[float, float], low: float, high: float) -> float:
    """A curve's mean height between two places."""
    heights = [height for place, height in curve.items() if low <= place <= high]
    if not heights:
        raise Undefined(f"no window is centred between {low:g} and {high:g} of the depth")
    return sum(heights) / len(heights)
