"""What `sightline study` left in a folder: rows, figures, and what was left out.

Rows are read by the names of their columns. A study or a column that is not there is told in words (`Absent`), which
become the reason why a claim is not testable. Knows no claim.
"""

from __future__ import annotations

import csv
import json
import re
import sys
from collections import Counter
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Callable, Iterator

from papers.numbers import Missing, Number

NAMES = (
    "share",
    "knockout",
    "localise",
    "compress",
    "ablate",
    "lens",
    "windows",
    "answer",
    "effect",
    "heads",
)
FORMAT = "sightline-study-1"


class Absent(Exception):
    """Something that a figure needs was not measured."""


class Study:
    """One study's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.told: dict[str, Any] = json.loads((folder / "study.json").read_text())
        if self.told.get("format") != FORMAT:
            raise Absent(f"{folder / 'study.json'} has the format {self.told.get('format')!r}, expected {FORMAT!r}")
        self.name: str = self.told["study"]
        self.model: dict[str, Any] = self.told["model"]
        self.n_layers: int = self.model["n_layers"]

    @cached_property
    def table(self) -> tuple[dict[str, int], list[list[str]]]:
        """Places of the columns, and the rows. Equal texts are held once: there are many rows."""
        with (self.folder / "rows.csv").open(newline="", encoding="utf-8") as file:
            lines = csv.reader(file)
            columns = {name: place for place, name in enumerate(next(lines, []))}
            return columns, [[sys.intern(value) for value in line] for line in lines]

    def rows(self, *columns: str) -> Iterator[tuple[str, ...]]:
        """The values of some columns, row by row."""
        places, lines = self.table
        absent = [name for name in columns if name not in places]
        if absent:
            raise Absent(f"the rows of `{self.name}` have no column `{'`, `'.join(absent)}`")
        wanted = [places[name] for name in columns]
        return (tuple(line[place] for place in wanted) for line in lines)

    def facts(self, name: str) -> Iterator[tuple[str, int | None, int | None, float]]:
        """Numbers beside the rows, from the study's record: image, layer, head, value."""
        record = self.folder / "images.jsonl"
        if not record.exists():
            raise Absent(f"the study `{self.name}` has no record (images.jsonl) here, and `{name}` is in no row")
        with record.open(encoding="utf-8") as file:
            next(file, None)
            for line in file:
                image = json.loads(line)
                for fact in image.get("facts", []):
                    if fact["name"] == name:
                        yield image["image"], fact.get("layer"), fact.get("head"), fact["value"]

    def points(self, series: str | None) -> Iterator[dict[str, Any]]:
        """The points of the study's own figure, or of its curves of one name."""
        for panel in self.told["results"]:
            for curve in panel["series"]:
                if series in (None, curve["name"]):
                    yield from curve["points"]

    def settled(
        self, number: Number | Missing, series: str | None = None, images: bool = False
    ) -> Number | Missing:
        """A figure with the interval that study.json has for it, where it has this very figure.

        `series`: in a curve of which name; `images`: whether it is there as one of so many images.
        """
        if isinstance(number, Missing) or number.value in (0.0, 1.0):
            # All and nothing are many figures' values, and say not which.
            return number
        n = number.images if images else number.n
        for point in self.points(series):
            # The program's numbers may have passed through 32 bits.
            if point["n"] == n and abs(point["value"] - number.value) <= 1e-6:
                return replace(number, low=point["low"], high=point["high"])
        return number

    def left_out(self) -> Counter[str]:
        """How many things were left out, by reason; names and numbers in a reason do not tell reasons apart."""
        return Counter(reason(one["why"]) for one in self.told["left_out"])


def reason(why: str) -> str:
    """A reason without what it was about."""
    return re.sub(r"\d+(\.\d+)?", "N", re.sub(r"`[^`]*`", "`...`", why))


class Data:
    """All studies of one folder."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self.studies: dict[str, Study] = {}
        self.absent: dict[str, str] = {}
        for name in NAMES:
            try:
                self.studies[name] = Study(work / name)
            except FileNotFoundError:
                self.absent[name] = f"the study `{name}` was not done"
            except (Absent, KeyError, json.JSONDecodeError) as error:
                self.absent[name] = f"the study `{name}` cannot be read ({error})"

    def study(self, name: str) -> Study:
        if name not in self.studies:
            raise Absent(self.absent[name])
        return self.studies[name]

    def measured(self, measure: Callable[[Data], Number | Missing]) -> Number | Missing:
        """A figure, or why there is none."""
        try:
            return measure(self)
        except Absent as error:
            return Missing(str(error))
        except FileNotFoundError as error:
            return Missing(f"{error.filename} is not there")
        except (KeyError, ValueError, IndexError) as error:
            return Missing(f"the rows are not of the form that is read here ({error!r})")
