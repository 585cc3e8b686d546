"""Claims of the papers, and the rules by which a figure says that they hold here.

A rule looks at a figure's 95 % interval alone, and says so in words that stand on the page. Knows no study and no
paper.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Callable

from papers.numbers import Missing, Number

if TYPE_CHECKING:
    from papers.study import Data

REPRODUCED = "reproduced"
NOT_REPRODUCED = "not reproduced"
NOT_TESTABLE = "not testable here"
VERDICTS = (REPRODUCED, NOT_REPRODUCED, NOT_TESTABLE)


@dataclass(frozen=True)
class Rule:
    """Reproduced where the whole interval lies between two bounds, not reproduced otherwise."""

    low: float = float("-inf")
    high: float = float("inf")

    @property
    def text(self) -> str:
        """Where the interval must lie."""
        if self.low == float("-inf"):
            return f"the interval lies wholly below {bound(self.high)}"
        if self.high == float("inf"):
            return f"the interval lies wholly above {bound(self.low)}"
        return f"the interval lies wholly between {bound(self.low)} and {bound(self.high)}"

    def holds(self, number: Number) -> bool:
        return self.low < number.low and number.high < self.high

    def why(self, number: Number) -> str:
        """Why the rule says what it says."""
        if self.holds(number):
            return "it does"
        if number.high <= self.low or number.low >= self.high:
            return "it lies wholly outside"
        return "it holds a bound: so many images do not decide it"


def bound(value: float) -> str:
    """A bound, as short as it is; a third as one."""
    if value in (1 / 3, 2 / 3):
        return f"{round(value * 3)}/3"
    return f"{value:g}".replace("-", "\u2212")


def above(low: float) -> Rule:
    return Rule(low=low)


def below(high: float) -> Rule:
    return Rule(high=high)


def between(low: float, high: float) -> Rule:
    return Rule(low, high)


@dataclass(frozen=True)
class Claim:
    """What a paper found, and how it is looked for here."""

    paper: str
    claim: str
    """In a sentence."""
    theirs: str
    """Their numbers, and on which model."""
    measure: Callable[[Data], Number | Missing]
    rule: Rule
    studies: tuple[str, ...]
    """Whose rows the figure is made of."""
    note: str = ""
    """In what the figure differs from theirs."""


@dataclass(frozen=True)
class Finding:
    """A claim beside what was measured."""

    claim: Claim
    number: Number | Missing

    @property
    def verdict(self) -> str:
        if isinstance(self.number, Missing):
            return NOT_TESTABLE
        return REPRODUCED if self.claim.rule.holds(self.number) else NOT_REPRODUCED

    @property
    def why(self) -> str:
        if isinstance(self.number, Missing):
            return self.number.why
        return self.claim.rule.why(self.number)
