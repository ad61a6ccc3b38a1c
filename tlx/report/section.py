"""The page's sections: question, answer, figure, what was measured, the paper, how."""

import html
import re
from collections.abc import Sequence
from typing import NamedTuple

from tlx.report.draw.svg import svg
from tlx.report.question import Answer, Check, Finding, Part, Question
from tlx.report.read.selection import Records
from tlx.report.words import verdicts
from tlx.report.words.numbers import NO_DATA
from tlx.report.words.table import Table, unbroken

_KIND = re.compile(r"(?<![\w-])(P-T|C-T|S-T|RI-T|P)(?![\w-])")


class Figure(NamedTuple):
    """A part of a question, drawn; without data no pictures."""

    part: Part
    pictures: tuple[str, ...]
    caption: str
    table: Table | None


class Section(NamedTuple):
    """A question of the page, ready to be set."""

    question: Question
    answer: Answer
    figures: tuple[Figure, ...]

    @property
    def has_data(self) -> bool:
        """Whether it has an answer, a picture or a table."""
        return bool(self.answer.sentence) or any(f.pictures or f.table for f in self.figures)

    @property
    def num_figures(self) -> int:
        """How many figures it has."""
        return sum(bool(figure.pictures) for figure in self.figures)


def prose(text: str) -> str:
    """Text as HTML: the kinds of model in their colours, a number kept on one line."""
    escaped = unbroken(html.escape(text.replace("'", "’"), quote=False))
    return _KIND.sub(lambda m: f'<span class="{m[1].lower()}">{m[1]}</span>', escaped)


def make(question: Question, records: Records) -> Section:
    """A section from a study's records; without data it has no pictures."""
    figures = tuple(_draw(part, records) for part in question.parts)
    return Section(question, question.answer(records), figures)


def _draw(part: Part, records: Records) -> Figure:
    panels = part.panels(records)
    return Figure(
        part,
        tuple(svg(panel, f"{part.name}-{panel.name}") for panel in panels),
        part.caption(records) if panels else "",
        part.table(records) if part.table else None,
    )


def render(section: Section, number: int) -> str:
    """The section as HTML, its figures numbered from `number`."""
    question = section.question
    answer = section.answer.sentence or f"{NO_DATA.capitalize()}: this has not been measured yet."
    parts = [
        f'<section id="{question.name}">',
        f"<h2>{html.escape(question.title)}</h2>",
        f'<p class="answer">{prose(answer)}</p>',
    ]
    papers = [figure for figure in section.figures if not figure.part.is_addition]
    for figure in section.figures:
        part = figure.part
        if part.heading and (figure.pictures or figure.table):
            where = " <small>not in the paper</small>" if part.is_addition else ""
            parts.append(f"<h3>{part.heading}{where}</h3>")
        if figure.pictures:
            parts.append(_figure(figure, number))
            number += 1
        if figure.table:
            heading = "" if part.is_addition else "<h3>Measured here</h3>"
            parts += [heading, figure.table.html(f"of-{part.name}")]
        if figure is papers[-1]:
            parts += _in_the_paper(question.finding)
    parts += [_checks(section.answer.checks), _how(question.how), "</section>"]
    return "\n".join(part for part in parts if part)


def _in_the_paper(finding: Finding) -> list[str]:
    heading = f"<h3>In the paper <small>{html.escape(finding.source)}</small></h3>"
    table = finding.table.html() if finding.table else ""
    return [heading, f"<p>{prose(finding.text)}</p>", table]


def _figure(figure: Figure, number: int) -> str:
    panels = "\n".join(f'<div class="panel">{p}</div>' for p in figure.pictures)
    return (
        f'<figure id="figure-{number}">\n<div class="panels">\n{panels}\n</div>\n'
        f"<figcaption><b>Figure {number}.</b> {prose(figure.caption)}</figcaption>\n"
        "</figure>"
    )


def _checks(checks: Sequence[Check]) -> str:
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


def _how(text: str) -> str:
    paragraphs = "".join(f"<p>{prose(part)}</p>" for part in text.split("\n\n"))
    return f"<details><summary>How it was computed</summary>{paragraphs}</details>"
