"""The page's figures and tables as files for a paper."""

import os
from pathlib import Path

from tlx.report import page, summary
from tlx.report.draw.look import matplotlib, style
from tlx.report.draw.panels import figure
from tlx.report.questions import PARTS
from tlx.report.read.selection import Source, listed

FIRST_TABLE = "key_numbers"
"""The name of the page's first table."""


def export(records: Source, folder: str | os.PathLike[str]) -> list[Path]:
    """Writes every figure as SVG and PDF and every table as CSV and LaTeX; their paths.

    They are named after the page's figures, `tlx.report.figures.NAMES`, and what is there already
    is replaced. The same records give the same bytes.

    Args:
      records: a study's records, or the path of their folder.
      folder: made where missing.

    Raises:
      ValueError: the path of the records is no folder.
      ImportError: no matplotlib; says the install command.
    """
    found, out = listed(records), Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    written = []
    tables = {FIRST_TABLE: summary.headline(found)}
    for name, part in PARTS.items():
        panels = part.panels(found)
        if panels:
            drawn = figure(panels)
            for kind in ("svg", "pdf"):
                path = out / f"{name}.{kind}"
                dates = {"Date": None} if kind == "svg" else {"CreationDate": None}
                with style(), matplotlib("").rc_context({"svg.hashsalt": name}):
                    drawn.savefig(path, format=kind, metadata=dates)
                written.append(path)
        table = part.table(found) if part.table else None
        if table is not None:
            tables[name] = table
    for name, table in tables.items():
        written.append(page.replace(out / f"{name}.csv", table.csv()))
        written.append(page.replace(out / f"{name}.tex", table.latex()))
    return written
