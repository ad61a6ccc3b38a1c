"""A table that prints as text and as HTML."""

import csv
import html
import io
import re
from typing import NamedTuple


def unbroken(text: str) -> str:
    """Text with spaces that do not break inside a number with its error or interval."""
    for sign in "±=/":
        text = text.replace(f" {sign} ", f"\u00a0{sign}\u00a0")
    return re.sub(r"(\[[−.,\d]+), ([−.,\d]+\])", "\\1,\u00a0\\2", text)


_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "−": "$-$", "±": r"$\pm$", "×": r"$\times$", "…": r"\dots{}", "≈": r"$\approx$",
}  # fmt: skip


def _latex(text: str) -> str:
    return "".join(_LATEX.get(letter, letter) for letter in text)


class Table(NamedTuple):
    """Rows of text under a row of column names; the first column names the rows."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def text(self) -> str:
        """The table as lines of aligned text, the first column flush left."""
        lines = [self.columns, *self.rows]
        widths = [max(len(line[i]) for line in lines) for i in range(len(self.columns))]
        rendered = [
            "  ".join(
                cell.ljust(width) if i == 0 else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        ]
        rule = "-" * max(map(len, rendered))
        return "\n".join([rendered[0], rule, *rendered[1:]])

    def csv(self) -> str:
        """The table as comma-separated values, with the column names in the first line."""
        out = io.StringIO()
        csv.writer(out, lineterminator="\n").writerows([self.columns, *self.rows])
        return out.getvalue()

    def latex(self) -> str:
        """The table as LaTeX, for the package booktabs."""
        lines = [" & ".join(map(_latex, line)) + r" \\" for line in (self.columns, *self.rows)]
        return "\n".join(
            (
                rf"\begin{{tabular}}{{l{'r' * (len(self.columns) - 1)}}}",
                r"\toprule",
                lines[0],
                r"\midrule",
                *lines[1:],
                r"\bottomrule",
                r"\end{tabular}",
                "",
            )
        )

    def html(self, css_class: str = "") -> str:
        """The table as an HTML `<table>` in a box that scrolls where it is too wide."""
        attribute = f' class="{html.escape(css_class)}"' if css_class else ""
        head = "".join(f'<th scope="col">{html.escape(c)}</th>' for c in self.columns)
        body = "\n".join(
            "<tr>"
            + f'<th scope="row">{html.escape(row[0])}</th>'
            + "".join(
                f'<td data-of="{html.escape(name)}">{unbroken(html.escape(cell))}</td>'
                for name, cell in zip(self.columns[1:], row[1:], strict=True)
            )
            + "</tr>"
            for row in self.rows
        )
        return (
            f'<div class="scroll"><table{attribute}>\n<thead><tr>{head}</tr></thead>\n'
            f"<tbody>\n{body}\n</tbody></table></div>"
        )
