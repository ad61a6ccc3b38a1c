"""The page's sections: question, answer, figure, what was measured, the paper, how."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from typing import NamedTuple

from tlx.records import Record
from tlx.report import answers, tables, verdicts
from tlx.report.captions import CAPTIONS
from tlx.report.drawing import svg
from tlx.report.figures import PANELS
from tlx.report.how import HOW
from tlx.report.numbers import NO_DATA
from tlx.report.paper import FINDINGS, Finding
from tlx.report.table import Table, unbroken

_KIND = re.compile(r"(?<![\w-])(P-T|RI-T|P)(?![\w-])")


def prose(text: str) -> str:
    """Returns text as HTML: the kinds of model in their colours, a number kept on one line."""
    escaped = unbroken(html.escape(text.replace("'", "’"), quote=False))
    return _KIND.sub(lambda m: f'<span class="{m[1].lower()}">{m[1]}</span>', escaped)


# The figures of a section, each with its caption and table, where it has not just its own:
# first what the paper has too, then the study's additions, under their own headings.
PARTS = {
    "amount": ("amount", "domains"),
    "starts": ("starts", "transferability"),
    "landscape": ("landscape", "permutation"),
    "similarity": ("similarity", "similarity_shuffled", "similarity_trajectory"),
    "depth": ("probes", "partial_transfer", "spectra"),
    "modules": ("rewinding", "criticality", "movement"),
    "mistakes": ("mistakes", "gallery"),
}
ADDITIONS = {
    "amount": "By the number of training images",
    "transferability": "Scores that need no fine-tuning",
    "permutation": "With the units in one order",
    "similarity_shuffled": "On shuffled images",
    "similarity_trajectory": "Over the training",
    "probes": "What a linear map reads from each layer",
    "partial_transfer": "Starting from some of the modules",
    "movement": "How the modules moved",
}
HEADINGS = {
    **ADDITIONS,
    "domains": "By the distance of the target",
    "spectra": "The singular values of the layers",
    "gallery": "Which images",
}


class Part(NamedTuple):
    """A figure with what stands under it, ready to be set; without data no pictures."""

    name: str
    pictures: tuple[str, ...]
    caption: str
    table: Table | None


class Section(NamedTuple):
    """A section of the page, ready to be set."""

    name: str
    title: str
    answer: verdicts.Answer
    parts: tuple[Part, ...]

    @property
    def has_data(self) -> bool:
        """Whether it has an answer, a picture or a table."""
        return bool(self.answer.sentence) or any(p.pictures or p.table for p in self.parts)

    @property
    def num_figures(self) -> int:
        """How many figures it has."""
        return sum(bool(part.pictures) for part in self.parts)


def make(name: str, records: Sequence[Record]) -> Section:
    """Returns a section from a study's records; without data it has no pictures."""
    return Section(
        name,
        tables.TITLES[name],
        answers.QUESTIONS[name](records),
        tuple(_part(part, records) for part in PARTS.get(name, (name,))),
    )


def _part(name: str, records: Sequence[Record]) -> Part:
    panels = PANELS[name](records)
    return Part(
        name,
        tuple(svg(panel, f"{name}-{panel.name}") for panel in panels),
        CAPTIONS[name](records) if panels else "",
        tables.TABLES[name](records) if name in tables.TABLES else None,
    )


def render(section: Section, number: int) -> str:
    """Returns the section as HTML, its figures numbered from ``number``."""
    finding = FINDINGS[section.name]
    answer = section.answer.sentence or f"{NO_DATA.capitalize()}: this has not been measured yet."
    parts = [
        f'<section id="{section.name}">',
        f"<h2>{html.escape(section.title)}</h2>",
        f'<p class="answer">{prose(answer)}</p>',
    ]
    own = [part.name for part in section.parts if part.name not in ADDITIONS]
    for part in section.parts:
        if part.name in HEADINGS and (part.pictures or part.table):
            where = " <small>not in the paper</small>" if part.name in ADDITIONS else ""
            parts.append(f"<h3>{HEADINGS[part.name]}{where}</h3>")
        if part.pictures:
            parts.append(_figure(part, number))
            number += 1
        if part.table:
            heading = "" if part.name in ADDITIONS else "<h3>Measured here</h3>"
            parts += [heading, part.table.html(f"of-{part.name}")]
        if part.name == own[-1]:
            parts += _in_the_paper(finding)
    parts += [_checks(section.answer.checks), _how(section.name), "</section>"]
    return "\n".join(part for part in parts if part)


def _in_the_paper(finding: Finding) -> list[str]:
    heading = f"<h3>In the paper <small>{html.escape(finding.source)}</small></h3>"
    table = finding.table.html() if finding.table else ""
    return [heading, f"<p>{prose(finding.text)}</p>", table]


def _figure(part: Part, number: int) -> str:
    panels = "\n".join(f'<div class="panel">{p}</div>' for p in part.pictures)
    return (
        f'<figure id="figure-{number}">\n<div class="panels">\n{panels}\n</div>\n'
        f"<figcaption><b>Figure {number}.</b> {prose(part.caption)}</figcaption>\n"
        "</figure>"
    )


def _checks(checks: Sequence[verdicts.Check]) -> str:
    if not checks:
        return ""
    mark = {verdicts.AGREES: "agrees", verdicts.DIFFERS: "differs"}
    items = "".join(
        f'<li class="{mark.get(c.verdict, "open")}">{prose(c.claim[0].upper() + c.claim[1:])}: '
        f"<b>{html.escape(c.verdict)}</b></li>"
        for c in checks
        if c.verdict
    )
    return f'<ul class="checks">{items}</ul>'


def _how(name: str) -> str:
    paragraphs = "".join(f"<p>{prose(part)}</p>" for part in HOW[name].split("\n\n"))
    return f"<details><summary>How it was computed</summary>{paragraphs}</details>"
