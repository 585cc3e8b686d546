"""docs/findings.md: every claim beside what was measured, as Markdown.

Nothing but the numbers of the work folder and of what it was made (`Made`) goes into the page: the same numbers give
the same page. Knows findings; neither how they were measured nor why.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from papers.numbers import Missing, Number
from papers.rules import NOT_REPRODUCED, NOT_TESTABLE, REPRODUCED, VERDICTS, Finding
from papers.study import NAMES, Data

LARGE = 1_000_000_000
PAPERS = {
    "K": "Kaduri, Bagon, Dekel: *What's in the Image? A Deep-Dive into the Vision of Vision Language Models*, "
    "CVPR 2025 (arXiv 2411.17491)",
    "N": "Neo, Ong, Torr, Geva, Krueger, Barez: *Towards Interpreting Visual Information Processing in "
    "Vision-Language Models*, ICLR 2025 (arXiv 2410.07149)",
    "Z": "Zhang, Yadav, Han, Shutova: *Cross-modal Information Flow in Multimodal Large Language Models*, CVPR 2025 "
    "(arXiv 2411.18620)",
    "S": "Beyond the papers: attention beside effect",
}
MARKS = {REPRODUCED: "**reproduced**", NOT_REPRODUCED: "not reproduced", NOT_TESTABLE: "*not testable here*"}


@dataclass(frozen=True)
class Made:
    """Of what the numbers were made."""

    command: str
    program: str
    images: str
    """The folder that was named; empty where the scenes were made for this."""
    seed: int
    count: int
    bundled: bool


def page(made: Made, data: Data, findings: list[Finding], figures: list[str]) -> str:
    """The whole page."""
    parts = [head(made, data, len(findings)), summary(findings)]
    for letter, title in PAPERS.items():
        parts.append(section(letter, title, [one for one in findings if one.claim.paper == letter]))
    parts += [measured(data), drawings(figures)]
    return "\n\n".join(parts) + "\n"


def head(made: Made, data: Data, n: int) -> str:
    """What this is, how it was made, on what, and how a verdict comes about; `n`: of how many claims."""
    return "\n\n".join(
        [
            "# What the papers found, measured here",
            "The findings of three papers, each beside the same figure measured with Sightline's studies and a "
            "rule that "
            "says when it is reproduced. Rules stand beside the claims in `scripts/papers/`, and look at nothing "
            "but "
            "the 95 % interval; git's history shows when each was written. No verdict is chosen by hand, and no "
            "claim "
            "is left away because of what came out.",
            f"This page is written by a program ({made.program}); do not edit it:\n\n```sh\n{made.command}\n```",
            model(data),
            images(made),
            "**Verdicts.** *Reproduced*: the whole interval lies where the rule wants it. *Not reproduced*: it "
            "does not; "
            "where the interval holds the rule's bound, more images might decide, and the reason says so. *Not "
            "testable "
            "here*: the model, the images or the studies do not give the figure, and the reason says why. Of "
            f"{n} rules at 95 %, one or two may say the wrong thing by chance. A claim about size, such as an F1 "
            "of .38 in "
            "a model of 76 billion parameters, is not compared in value: its rule says which direction, or which "
            "bound, "
            "stands for it. Numbers are the papers'; bounds are ours, which differ from them as far as the rules "
            "say.",
            "**Intervals** are those of `sightline study` where it has the figure; else the bootstrap over "
            "images (1000 "
            "resamples, seeded), or Wilson's for a share of independent things. **Layers** are told by depth: "
            "the middle "
            "of layer *l* of *L* lies at (*l* + \u00bd) / *L*; *early*, *middle* and *late* are the thirds.",
        ]
    )


def model(data: Data) -> str:
    """Which model, and whether it is a large one."""
    told = [study.model for study in data.studies.values()]
    if not told:
        return "**Model.** None: no study was done."
    if len({(one["name"], one["sha256"]) for one in told}) > 1:
        raise ValueError(f"{data.work} holds studies of several models: give each model a --work of its own")
    one = told[0]
    text = (
        f"**Model.** `{one['name']}` ({one['family']}): {amount(one['parameters'])} parameters, "
        f"{one['n_layers']} decoder layers of "
        f"{one['n_heads']} heads, width {one['width']}; SHA-256 of the weights `{one['sha256']}`; "
        f"{data.studies[next(iter(data.studies))].told['dtype']}."
    )
    if one["parameters"] < LARGE:
        text += (
            " **No large model was at hand where this page was made.** The papers' models have 4 to 76 billion "
            "parameters; what does not hold in this one may hold in those, and the other way round. With "
            "`--model DIR_OR_ID` the same command measures any other."
        )
    return text


def images(made: Made) -> str:
    """Which images, and why the model has not seen them."""
    if made.images:
        return (
            f"**Images.** `{made.images}`, at most {made.count}. Whether the model was trained on them is not "
            "known to "
            "this program."
        )
    text = (
        f"**Images.** {made.count} made-up scenes of seed {made.seed} (`sightline scenes --seed {made.seed} "
        "--count "
        f"{made.count}`), whose objects are known to the pixel."
    )
    if made.bundled:
        text += (
            " They are held out: a scene follows from its seed and its number alone, and the bundled model was "
            "trained "
            "on seeds 100 and 101, watched in training on 102 and 103, and measured on 777 and 990001 "
            "(`train/README.md`, `assets/model/README.md`); seed 2026 makes the sample scenes. This seed was "
            "used for "
            "none of these, and no rule was chosen on it; what the model's card says of seed 990001 was known "
            "when the "
            "rules were written. Held out are scenes, not a kind of scene: objects, tints and backgrounds are "
            "those of "
            "the training."
        )
    return text


def summary(findings: list[Finding]) -> str:
    """How many of which verdict, by paper."""
    lines = ["| | " + " | ".join(VERDICTS) + " |", "|---" * 4 + "|"]
    for letter, title in PAPERS.items():
        counts = Counter(one.verdict for one in findings if one.claim.paper == letter)
        lines.append(
            f"| {title.split(':')[0]} | " + " | ".join(str(counts[verdict]) for verdict in VERDICTS) + " |"
        )
    return "\n".join(lines)


def section(letter: str, title: str, findings: list[Finding]) -> str:
    """The claims of one paper: a table, and below it what each figure is, its rule, and why it says so."""
    table = ["| | claim | theirs | here, with 95 % interval | verdict |", "|---|---|---|---|---|"]
    notes = []
    for number, one in enumerate(findings, 1):
        name = f"{letter}{number}"
        row = [name, one.claim.claim, one.claim.theirs, figure(one.number), MARKS[one.verdict]]
        table.append("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |")
        notes.append(note(name, one))
    return "\n".join(
        [f"## {title}", "", *table, "", "What was measured, by which rule, and why it says so:", "", *notes]
    )


def note(name: str, one: Finding) -> str:
    """What a figure is, its rule, and why the verdict is what it is."""
    claim = one.claim
    of = ", ".join(f"`{study}`" for study in claim.studies)
    parts = [f"- **{name}** ({of})."]
    if isinstance(one.number, Missing):
        parts.append(f"Reproduced if {claim.rule.text}. {one.verdict.capitalize()}: {one.number.why}.")
    else:
        parts.append(
            f"{one.number.what[0].upper()}{one.number.what[1:]}; of {plain(one.number.n)} numbers on "
            f"{one.number.images} images."
        )
        parts.append(f"Reproduced if {claim.rule.text}: {one.why}.")
    if claim.note:
        parts.append(claim.note)
    return " ".join(parts)


def figure(number: Number | Missing) -> str:
    """A figure with its interval and unit."""
    if isinstance(number, Missing):
        return "\u2014"
    unit = f" {number.unit}" if number.unit else ""
    return f"{digits(number.value)}{unit} ({digits(number.low)} to {digits(number.high)})"


def digits(value: float) -> str:
    """Three places; small ones to two digits."""
    text = f"{value:.2g}" if 0 < abs(value) < 0.001 else f"{value:.3f}"
    return text.replace("-", "\u2212") if float(text) else "0.000"


def plain(n: int) -> str:
    return f"{n:,}"


def amount(n: int) -> str:
    """A number of parameters, in words."""
    return f"{n / 1e9:.1f} billion" if n >= LARGE else f"{n / 1e6:.1f} million"


def measured(data: Data) -> str:
    """What every study measured, and what it left out, by reason."""
    lines = [
        "## What was measured, and what was not",
        "",
        "| study | images | rows | left out |",
        "|---|---|---|---|",
    ]
    for name in NAMES:
        if name in data.absent:
            lines.append(f"| `{name}` | \u2014 | \u2014 | {data.absent[name]} |")
            continue
        study = data.studies[name]
        left = [
            f"{n:,}: {why}" for why, n in sorted(study.left_out().items(), key=lambda item: (-item[1], item[0]))
        ]
        told = study.told
        rows = plain(len(study.table[1]))
        cell = "<br>".join(left).replace("|", "\\|") or "nothing"
        lines.append(f"| `{name}` | {told['n_measured']} of {told['n_images']} | {rows} | {cell} |")
    lines += [
        "",
        "In a reason, `...` stands for names and N for numbers. The studies' own `study.json` list every one.",
    ]
    return "\n".join(lines)


def drawings(figures: list[str]) -> str:
    """The studies' own figures."""
    lines = [
        "## Figures",
        "",
        "`docs/findings/STUDY.svg` is the figure that `sightline study STUDY` drew of these numbers.",
    ]
    if not figures:
        lines += ["", "None: no study has drawn one."]
    for name in figures:
        lines += ["", f"### `{name}`", "", f"![The study {name}](findings/{name}.svg)"]
    return "\n".join(lines)
