"""The page: a study's records as one self-contained HTML file that reads like a short paper."""

import html
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tlx.core import files
from tlx.records import Record, record_digest, scan
from tlx.report import section as sections
from tlx.report import summary
from tlx.report.questions import QUESTIONS
from tlx.report.read import learning
from tlx.report.read.selection import of_kind, problems
from tlx.report.words.numbers import NO_DATA, count
from tlx.report.words.table import Table

_CSS = Path(__file__).with_name("page.css")
TITLE = "What is transferred?"
CITATION = (
    "B. Neyshabur, H. Sedghi, C. Zhang. What is being transferred in transfer learning? "
    "NeurIPS 2020. arXiv 2008.11687."
)


def write(
    records_root: str | os.PathLike[str],
    out_html: str | os.PathLike[str],
    *,
    title: str | None = None,
) -> Path:
    """Writes a study's page; its path.

    One HTML file without scripts or anything outside it; figures are SVG in the text. The
    same records give the same bytes. Questions without any record are named in one paragraph.

    Args:
      records_root: the records' folder; may be of an unfinished study, or empty.
      out_html: where to write; its folder is made where missing. It is replaced as a
        whole.
      title: the page's heading; None gives the paper's question and the target's name.

    Raises:
      ValueError: `records_root` is no folder.
      ImportError: no matplotlib; says the install command.
    """
    records, damaged = scan(records_root)
    text = render(records, title=title, damaged=damaged)
    return replace(out_html, text)


def replace(path: str | os.PathLike[str], text: str) -> Path:
    """Writes a file as a whole; its folder is made where missing."""
    out = Path(path)
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f".{out.name}.tmp")
    try:
        with files.placed(out):
            temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, out)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    return out


def render(
    records: Sequence[Record], *, title: str | None = None, damaged: Sequence[str] = ()
) -> str:
    """The page's HTML; `damaged` are messages for its appendix.

    Raises:
      ImportError: no matplotlib; says the install command.
    """
    made = [sections.make(question, records) for question in QUESTIONS.values()]
    heading = html.escape(title if title is not None else _title(records))
    rendered, number = [], 1
    asked = [section for section in made if section.has_data]
    for section in asked or made:
        rendered.append(sections.render(section, number))
        number += section.num_figures
    body = [
        f"<header>\n<h1>{heading}</h1>\n{_facts(records)}\n</header>",
        f"<main>\n{_summary(records, asked or made)}",
        *rendered,
        _not_asked([s.question.title for s in made if asked and s not in asked]),
        _appendix(records, [*damaged, *problems(records)]),
        "</main>",
    ]
    return document(heading, body)


def document(heading: str, body: Sequence[str]) -> str:
    """A page of its own: nothing outside it is needed.

    Args:
      heading: its title, as HTML.
      body: its parts, as HTML.
    """
    return "\n".join(
        (
            "<!doctype html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<link rel="icon" href="data:,">',
            f"<title>{heading}</title>",
            f"<style>\n{_CSS.read_text(encoding='utf-8')}</style>",
            "</head>",
            "<body>",
            *body,
            "</body>",
            "</html>",
            "",
        )
    )


def _title(records: Sequence[Record]) -> str:
    targets = sorted({c.target for c in learning.curves(records, None) if c.target})
    return f"What is transferred to {' and '.join(targets)}?" if targets else TITLE


def _facts(records: Sequence[Record]) -> str:
    every = [
        r
        for r in of_kind(records, "learning_curve", "step", "test_accuracy")
        if not r.inputs.get("part")
    ]
    found = [learning.curve(r) for r in every if r.inputs.get("kind") != "P"]
    parts = []
    for kind in sorted({c.kind for c in found}):
        parts.append(count(sum(c.kind == kind for c in found), f"{kind} run"))
    sizes = sorted({c.num_train for c in found if c.num_train})
    tests = sorted({c.num_test for c in found if c.num_test})
    for numbers, noun in ((sizes, "training images"), (tests, "test images")):
        if numbers:
            parts.append(" or ".join(f"{n:,}" for n in numbers) + f" {noun}")
    kinds = (
        "P is the pretrained model, P-T the model fine-tuned from it on the target, RI-T the "
        "model trained there from random initialisation."
    )
    if any(c.kind == "S-T" for c in found):
        kinds += " S-T starts from random weights with the mean and spread of each tensor of P."
    if any(c.kind == "C-T" for c in found):
        kinds += " C-T is fine-tuned again from the mean of the P-T."
    done = " · ".join(html.escape(p) for p in parts) or NO_DATA.capitalize()
    return f'<p class="facts">{done}</p>\n<p>{sections.prose(kinds)}</p>'


def _summary(records: Sequence[Record], made: Sequence[sections.Section]) -> str:
    items = "\n".join(
        f'<li><a href="#{s.question.name}">{sections.prose(s.answer.short or _missing(s))}</a></li>'
        for s in made
    )
    return summary.headline(records).html("headline") + f'\n<ol class="answers">\n{items}\n</ol>'


def _not_asked(titles: Sequence[str]) -> str:
    if not titles:
        return ""
    named = html.escape(" ".join(titles))
    return f'<p class="not-asked">Not asked in this study, or not measured yet: {named}</p>'


def _missing(section: sections.Section) -> str:
    return f"{section.question.title} {NO_DATA.capitalize()}."


def _appendix(records: Sequence[Record], wrong: Sequence[str]) -> str:
    parts = ['<section id="appendix">', "<h2>Appendix</h2>"]
    parts.append(f"<p>The paper: {html.escape(CITATION)}</p>")
    if wrong:
        items = "".join(f"<li>{html.escape(p)}</li>" for p in wrong)
        parts.append(f"<h3>Records left out or with problems</h3>\n<ul>{items}</ul>")
    parts += [_study(record) for record in records if record.question == "study"]
    parts.append(_records(records))
    return "\n".join([*parts, "</section>"])


def _records(records: Sequence[Record]) -> str:
    rows = []
    for record in records:
        seconds = record.meta.get("seconds")
        name = f"{record.question}/{record_digest(record.question, record.key)[:16]}"
        given = {k: " + ".join(map(str, v)) if isinstance(v, list) else v
                 for k, v in record.inputs.items()}  # fmt: skip
        what = ", ".join(f"{k} {v}" for k, v in given.items() if isinstance(v, str | int))
        rows.append((name, what, f"{seconds:.1f}" if isinstance(seconds, int | float) else ""))
    if not rows:
        return "<p>There are no records yet.</p>"
    table = Table(("record (.json and .npz)", "inputs", "seconds"), tuple(rows)).html("records")
    return f"<details class='list'><summary>{count(len(rows), 'record')}</summary>{table}</details>"


def _study(record: Record) -> str:
    seconds = np.asarray(record.results.seconds, np.float64)
    folded = {"config": record.options.get("config"), **record.meta}
    parts = []
    if np.isfinite(seconds).any():
        runs = count(int(np.isfinite(seconds).sum()), "run")
        parts.append(f"<p>Training took {np.nansum(seconds):,.0f} seconds in {runs}.</p>")
    for name, value in sorted(folded.items()):
        if value and isinstance(value, str | dict | list):
            parts.append(
                f"<details><summary>{html.escape(name.replace('_', ' ').capitalize())}</summary>"
                f"<pre>{html.escape(_readable(value))}</pre></details>"
            )
    return "\n".join(parts)


def _readable(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, indent=2, sort_keys=True)
