"""Figures with 95 % intervals, of the rows of a study.

A figure is a function of the means of some cells: "hits by layer" are the cells, "the middle layers less the best
of the others" the function. Its interval is the bootstrap over images, so that what one image gives many times
counts as one image; a plain share of independent things has Wilson's. Both are what `sightline study` takes. Knows
no study by name.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, replace
from operator import mul
from typing import Callable, Hashable, Iterable, Mapping

RESAMPLES = 1000
SEED = 95
Z = 1.959963984540054

Cell = tuple[str, Hashable, float]
"""An image's name, what the number is a number of, and the number."""
Means = Mapping[Hashable, float]
Statistic = Callable[[Means], float]


@dataclass(frozen=True)
class Number:
    """A figure, its 95 % interval, and of how many things on how many images it is."""

    value: float
    low: float
    high: float
    n: int
    images: int
    what: str = ""
    """What was measured, in words."""
    unit: str = ""

    def said(self, what: str, unit: str = "") -> Number:
        return replace(self, what=what, unit=unit)


@dataclass(frozen=True)
class Missing:
    """Why there is no figure."""

    why: str

    def said(self, what: str, unit: str = "") -> Missing:
        return self


def wilson(right: int, n: int) -> tuple[float, float]:
    """The 95 % interval of a share."""
    if n == 0:
        return 0.0, 1.0
    p = right / n
    scale = 1 + Z * Z / n
    center = (p + Z * Z / (2 * n)) / scale
    half = Z / scale * math.sqrt(p * (1 - p) / n + Z * Z / (4 * n * n))
    return min(max(center - half, 0.0), p), max(min(center + half, 1.0), p)


def share(cells: Iterable[tuple[str, bool]]) -> Number | Missing:
    """How many of some independent things are so."""
    all_cells = list(cells)
    if not all_cells:
        return Missing("no row of the study is about this")
    n, right = len(all_cells), sum(yes for _, yes in all_cells)
    low, high = wilson(right, n)
    return Number(right / n, low, high, n, len({image for image, _ in all_cells}))


class Undefined(Exception):
    """Why a figure is not defined on what was measured."""


class Pool:
    """Sums of cells by image, from which means are drawn anew."""

    def __init__(self, cells: Iterable[Cell]) -> None:
        sums: dict[Hashable, dict[str, list[float]]] = {}
        images: dict[str, int] = {}
        self.n = 0
        for image, key, number in cells:
            images.setdefault(image, len(images))
            held = sums.setdefault(key, {}).setdefault(image, [0.0, 0])
            held[0] += number
            held[1] += 1
            self.n += 1
        self.images = len(images)
        self.sums = {
            key: tuple([of.get(image, (0.0, 0))[part] for image in images] for part in (0, 1))
            for key, of in sums.items()
        }

    def means(self, weights: list[int] | None = None) -> dict[Hashable, float]:
        """The mean of every cell; `weights`: how often each image was drawn."""
        means = {}
        for key, (sums, counts) in self.sums.items():
            n = sum(counts) if weights is None else sum(map(mul, weights, counts))
            if n:
                means[key] = (sum(sums) if weights is None else sum(map(mul, weights, sums))) / n
        return means


def applied(statistic: Statistic, means: Means) -> float | None:
    """A statistic of some means; nothing where it is not defined."""
    try:
        value = statistic(means)
    except (KeyError, Undefined, ZeroDivisionError):
        return None
    return value if math.isfinite(value) else None


def figure(cells: Iterable[Cell], statistic: Statistic) -> Number | Missing:
    """A statistic of the means of some cells, with the bootstrap over images."""
    pool = Pool(cells)
    if pool.n == 0:
        return Missing("no row of the study is about this")
    try:
        value = statistic(pool.means())
    except Undefined as why:
        return Missing(str(why))
    except (KeyError, ZeroDivisionError):
        return Missing("the rows do not hold every condition that the figure needs")
    drawn = []
    dice = random.Random(SEED)
    for _ in range(RESAMPLES):
        weights = [0] * pool.images
        for _ in range(pool.images):
            weights[dice.randrange(pool.images)] += 1
        again = applied(statistic, pool.means(weights))
        if again is not None:
            drawn.append(again)
    if len(drawn) < RESAMPLES * 0.9:
        return Missing("the figure is not defined on most draws of the images: there are too few of them")
    drawn.sort()
    tail = len(drawn) // 40
    low, high = min(drawn[tail], value), max(drawn[-1 - tail], value)
    return Number(value, low, high, pool.n, pool.images)


def mean(cells: Iterable[tuple[str, float]]) -> Number | Missing:
    """The mean of some numbers."""
    return figure(((image, 0, number) for image, number in cells), lambda means: means[0])


def ranks(numbers: list[float]) -> list[float]:
    """The place of every number among all, ascending; equal ones share the mean of theirs."""
    order = sorted(range(len(numbers)), key=numbers.__getitem__)
    places = [0.0] * len(numbers)
    first = 0
    for last, place in enumerate(order):
        if last + 1 == len(order) or numbers[order[last + 1]] != numbers[place]:
            for equal in order[first : last + 1]:
                places[equal] = (first + last) / 2
            first = last + 1
    return places


def rank_correlation(some: list[float], others: list[float]) -> float:
    """Spearman's."""
    a, b = ranks(some), ranks(others)
    middle = (len(a) - 1) / 2
    product = sum((x - middle) * (y - middle) for x, y in zip(a, b))
    return product / math.sqrt(sum((x - middle) ** 2 for x in a) * sum((y - middle) ** 2 for y in b))


def said(value: float | None) -> str:
    """A figure that stands beside another."""
    return "\u2014" if value is None else f"{value:.3f}"


def in_percent(part: float) -> str:
    return f"{100 * part:.3g} %"


def depth(layer: float, n_layers: int) -> float:
    """How deep a layer's middle lies, from 0 (below the first) to 1 (above the last)."""
    return (layer + 0.5) / n_layers


def third(layer: float, n_layers: int) -> str:
    """Which third of the layers one belongs to, by its middle."""
    place = depth(layer, n_layers)
    return "early" if place < 1 / 3 else "middle" if place < 2 / 3 else "late"


def at(curve: Mapping[float, float], x: float) -> float:
    """A curve's height where it was not measured: along the line between its neighbours."""
    if not curve:
        raise Undefined("the curve has no points")
    below = [place for place in curve if place <= x]
    above = [place for place in curve if place >= x]
    if not below or not above:
        return curve[min(curve) if not below else max(curve)]
    left, right = max(below), min(above)
    if left == right:
        return curve[left]
    return curve[left] + (curve[right] - curve[left]) * (x - left) / (right - left)


def crossing(curve: Mapping[float, float], height: float) -> float:
    """Where a curve first reaches a height on its way up, between the points it was measured at."""
    places = sorted(curve)
    for left, right in zip(places, places[1:]):
        if curve[left] < height <= curve[right]:
            return left + (right - left) * (height - curve[left]) / (curve[right] - curve[left])
    raise Undefined("the curve does not rise to that height")


def centroid(curve: Mapping[float, float]) -> float:
    """The place around which a curve's mass lies; what is below 0 has none."""
    mass = {place: max(height, 0.0) for place, height in curve.items()}
    return sum(place * weight for place, weight in mass.items()) / sum(mass.values())
