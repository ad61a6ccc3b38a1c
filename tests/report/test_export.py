"""Figures and tables as files, the values under the pointer, a page in both themes."""

import csv
import hashlib
import re

import numpy as np
import pytest

from tlx import cli
from tlx.report import export, page
from tlx.report.draw import hover, panels, svg
from tlx.report.questions import PARTS
from tlx.report.words.table import Table


def digests(folder):
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir()}


def test_every_figure_and_table_is_a_file_and_the_same_twice(root, tmp_path):
    written = export.export(root, tmp_path / "one")
    export.export(root, tmp_path / "two")
    found = digests(tmp_path / "one")
    assert found == digests(tmp_path / "two")
    assert sorted(found) == sorted(path.name for path in written)
    stems = {path.stem for path in written}
    assert {"training", "interpolation", "key_numbers"} <= stems
    assert stems <= {*PARTS, "key_numbers"}
    for path in written:
        start = {"svg": b"<?xml", "pdf": b"%PDF", "tex": b"\\begin{tabular}", "csv": b""}
        assert path.read_bytes().startswith(start[path.suffix[1:]])
    with (tmp_path / "one" / "key_numbers.csv").open() as file:
        rows = list(csv.reader(file))
    assert {"P-T", "RI-T"} <= set(rows[0])
    assert len({len(row) for row in rows}) == 1


def test_the_command_exports_beside_the_page(root, tmp_path, capsys):
    workdir = tmp_path / "study"
    workdir.mkdir()
    (workdir / "records").symlink_to(root)
    (workdir / "study.json").write_text('{"title": "A study"}')
    assert cli.main(["report", "--workdir", str(workdir), "--export", str(tmp_path / "out")]) == 0
    assert f"{tmp_path / 'out'}: " in capsys.readouterr().out
    assert (tmp_path / "out" / "training.pdf").exists()


def test_latex_says_what_the_table_says():
    table = Table(("a_b", "50 %"), (("x & y", "−1 ± 2"), ("{p}", "~3^2 #4 \\5")))
    assert table.latex().splitlines() == [
        r"\begin{tabular}{lr}",
        r"\toprule",
        r"a\_b & 50 \% \\",
        r"\midrule",
        r"x \& y & $-$1 $\pm$ 2 \\",
        r"\{p\} & \textasciitilde{}3\textasciicircum{}2 \#4 \textbackslash{}5 \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]
    assert list(csv.reader(table.csv().splitlines())) == [
        list(table.columns),
        *map(list, table.rows),
    ]
    assert 'data-of="50 %"' in table.html()


def drawn(draw):
    return panels.figure([panels.Panel("p", "title", draw)])


def test_the_values_of_lines_bars_and_maps_are_at_their_places():
    def draw(axes):
        axes.plot([0, 1, 2], [10, 20, np.nan], lw=1.4, label="P-T")
        axes.plot([0, 1], [5, 5], lw=0.4)  # a single run
        axes.axhline(3, lw=1.4)
        axes.plot([1, 1], [8, 9], lw=1.4)  # the ends of an interval
        axes.set_xlim(0, 2)
        axes.set_ylim(0, 40)

    figure = drawn(draw)
    (axes,) = figure.axes
    found = list(hover.spots(axes))
    assert [spot.text for spot in found] == ["P-T, 0: 10.0", "P-T, 1.00: 20.0"]
    height = figure.get_figheight() * 72
    for spot, (x, y) in zip(found, ((0, 10), (1, 20)), strict=True):
        at = axes.transData.transform((x, y)) * 72 / figure.dpi
        np.testing.assert_allclose((spot.x + spot.width / 2, spot.y + spot.height / 2),
                                   (at[0], height - at[1]), atol=0.1)  # fmt: skip

    def bars(axes):
        axes.bar([0, 1], [3, 4])
        axes.set_xticks([0, 1], ["stem", "head"])

    assert [s.text for s in hover.spots(drawn(bars).axes[0])] == ["stem: 3.00", "head: 4.00"]

    def cells(axes):
        axes.pcolormesh(np.array([[0.1, 0.2], [0.3, np.nan]]))
        axes.set_xticks([0.5, 1.5], ["a", "b"])
        axes.set_yticks([0.5, 1.5], ["c", "d"])

    texts = [s.text for s in hover.spots(drawn(cells).axes[0])]
    assert texts == ["c, a: 0.100", "c, b: 0.200", "d, a: 0.300"]


def test_a_long_line_has_a_value_here_and_there():
    found = list(hover.spots(drawn(lambda axes: axes.plot(np.arange(500.0), lw=1)).axes[0]))
    assert len(found) == hover.MOST_POINTS
    assert found[0].text.endswith("0: 0")
    assert found[-1].text.endswith("499: 499")


def test_a_picture_of_the_page_has_its_values_and_no_idle_digits():
    text = svg.svg(panels.Panel("p", "t", lambda axes: axes.plot([1 / 3, 2], lw=1)), "fig")
    assert "<title>0: 0.333</title>" in text
    assert text.endswith("</svg>")
    assert not re.search(r"\d\.\d{3,}(?![\w.])", re.sub(r"<title>.*?</title>", "", text))


@pytest.mark.parametrize("words", ["prefers-color-scheme: dark", "@media print", "data-of"])
def test_the_page_is_made_for_themes_paper_and_phones(words):
    assert words in page.document("t", [Table(("a", "b"), (("1", "2"),)).html()])
