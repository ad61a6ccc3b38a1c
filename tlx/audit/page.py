"""An audit as a page, as tables, and as text for a terminal."""

import dataclasses
import html
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import tlx
from tlx.audit.behaviour import Behaviour
from tlx.audit.findings import Finding
from tlx.audit.weights import Pair
from tlx.report import page as report_page
from tlx.report.draw import layers, svg
from tlx.report.draw.panels import Panel, figure
from tlx.report.words.numbers import significant
from tlx.report.words.table import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

A, B, PARENT = "#1f5fa8", "#c95a08", "#0b8a6a"
SAID = {
    "unchanged": "the same",
    "scaled": "scaled",
    "reordered": "other order",
    "unrelated": "unrelated",
    "low_rank": "low rank",
    "noise": "like noise",
    "tuned": "changed",
    "undefined": "not finite",
}


@dataclasses.dataclass(frozen=True)
class Audit:
    """Everything that an audit found.

    Attributes:
      names: by part, "a", "b" and perhaps "parent".
      paths: likewise, as they were given.
      findings: in the order of the page.
      pairs: "a and b", and with a parent "parent and a" and "parent and b".
      behaviour: on data; None without.
      notes: what could not be done, and why.
    """

    names: dict[str, str]
    paths: dict[str, str]
    findings: tuple[Finding, ...]
    pairs: dict[str, Pair]
    behaviour: Behaviour | None
    notes: tuple[str, ...] = ()

    def text(self) -> str:
        """For a terminal: the findings, then the modules."""
        lines = [f"{i}. {finding.text}" for i, finding in enumerate(self.findings, 1)]
        lines += [f"   ({note})" for note in self.notes]
        return "\n".join([self.title, "", *lines, "", self.modules().text()])

    @property
    def title(self) -> str:
        """The heading."""
        of = f", made from {self.names['parent']}?" if "parent" in self.names else ""
        return f"{self.names['a']} and {self.names['b']}{of or ', compared'}"

    def modules(self) -> Table:
        """A row a module: how much it changed and in which way; what is lost with another's."""
        columns = ["module"]
        for name in self.pairs:
            columns += [f"{self._said(name)}, %", "is"]
        modules = list(dict.fromkeys(m for pair in self.pairs.values() for m in pair.modules))
        rows = []
        for module in modules:
            row = [module]
            for pair in self.pairs.values():
                if module not in pair.modules:
                    row += ["", "other shape"]
                    continue
                i = pair.modules.index(module)
                row += [_percent(pair.relative[i]), SAID[pair.kinds[i]]]
            rows.append(row)
        if self.behaviour is not None:
            columns += [f"{self.names[p]} loses, points" for p in ("a", "b")]
            places = {m: i for i, m in enumerate(self.behaviour.modules)}
            for row in rows:
                for part in ("a", "b"):
                    i = places.get(row[0], -1)
                    lost = math.nan if i < 0 else self.behaviour.dropped[part][i]
                    row.append("" if math.isnan(lost) else f"{100 * lost:.1f}".replace("-", "−"))
        return Table(tuple(columns), tuple(map(tuple, rows)))

    def matrices(self) -> Table:
        """A row a matrix: the rank of its change, and directions that are new."""
        columns = ["matrix", "compared", "change, %", "cosine", "rank", "of", "stable rank",
                   "of noise", "new directions", "which is"]  # fmt: skip
        rows = []
        for pair_name, pair in self.pairs.items():
            found, name = pair.layers, self._said(pair_name)
            for i, layer in enumerate(found.layers):
                rows.append(
                    (
                        layer.removeprefix("params/"), name, _percent(found.relative[i]),
                        _number(found.cosine[i]), str(found.rank[i]), str(found.full_rank[i]),
                        _number(found.summaries.stable_rank[i]), _number(found.as_noise[i]),
                        str(found.intruders[i]), SAID[pair.layer_kinds[i]],
                    )
                )  # fmt: skip
        return Table(tuple(columns), tuple(rows))

    def features(self) -> Table | None:
        """A row a layer: the similarity of its features; None where they are not known."""
        if self.behaviour is None or not self.behaviour.cka:
            return None
        columns = ("layer", *(self._said(name) for name in self.behaviour.cka))
        rows = tuple(
            (layer, *(_number(values[i]) for values in self.behaviour.cka.values()))
            for i, layer in enumerate(self.behaviour.layers)
        )
        return Table(columns, rows)

    def tables(self) -> dict[str, Table]:
        """All tables, by the name of their file."""
        found = {"modules": self.modules(), "matrices": self.matrices()}
        features = self.features()
        return found if features is None else found | {"features": features}

    def _said(self, pair: str) -> str:
        x, y = (self.names[part] for part in pair.split(" and "))
        return f"{x} – {y}" if pair == "a and b" else f"{x} → {y}"


def write(audit: Audit, folder: Path) -> Path:
    """Writes audit.html, audit.json and the tables as CSV and LaTeX into a folder; the page."""
    for name, table in audit.tables().items():
        report_page.replace(folder / f"{name}.csv", table.csv())
        report_page.replace(folder / f"{name}.tex", table.latex())
    found = {"tlx": tlx.__version__} | _plain(dataclasses.asdict(audit))
    report_page.replace(folder / "audit.json", json.dumps(found, indent=1) + "\n")
    return report_page.replace(folder / "audit.html", render(audit))


def render(audit: Audit) -> str:
    """The page."""
    heading, drawn = html.escape(audit.title), _panels(audit)
    items = "\n".join(f"<li>{html.escape(finding.text)}</li>" for finding in audit.findings)
    notes = "".join(f"<p>{html.escape(note)}</p>" for note in audit.notes)
    facts = " · ".join(f"{part}: {path}" for part, path in audit.paths.items())
    body = [
        f'<header>\n<h1>{heading}</h1>\n<p class="facts">{html.escape(facts)}</p>\n</header>',
        f'<main>\n<ol class="answers findings">\n{items}\n</ol>\n{notes}',
        _section("modules", "Where they differ", drawn["modules"], audit.modules()),
    ]
    if audit.behaviour is not None:
        body.append(_section("line", "Between them", drawn["line"], None))
        body.append(_section("carried", "What each module carries", drawn["carried"], None))
    features = audit.features()
    if features is not None:
        body.append(_section("features", "Their features", drawn["features"], features))
    body += [_section("matrices", "Matrix by matrix", [], audit.matrices()), _how(), "</main>"]
    return report_page.document(heading, body)


def figures(audit: Audit) -> dict[str, "Figure"]:
    """The page's figures, by section: "modules", and on data "line", "carried" and "features".

    Each is a matplotlib Figure, which a notebook shows; one without data is left out.

    Raises:
      ImportError: no matplotlib; says the install command.
    """
    return {name: figure(panels) for name, panels in _panels(audit).items() if panels}


def _panels(audit: Audit) -> dict[str, list[Panel]]:
    """The panels of each section."""
    found, panels = audit.behaviour, {"modules": _changes(audit)}
    if found is not None:
        panels |= {"line": [_line(found)], "carried": _dropped(found, audit)}
        panels |= {"features": _cka(audit)} if found.cka else {}
    return panels


def _section(name: str, title: str, panels: Sequence[Panel], table: Table | None) -> str:
    pictures = "\n".join(
        f'<div class="panel">{svg.svg(p, f"{name}-{p.name}")}</div>' for p in panels
    )
    figure = f'<figure><div class="panels">\n{pictures}\n</div></figure>' if panels else ""
    shown = table.html(f"of-{name}") if table else ""
    if table and len(table.rows) > 40:
        shown = f"<details><summary>{len(table.rows)} rows</summary>{shown}</details>"
    return f'<section id="{name}">\n<h2>{title}</h2>\n{figure}\n{shown}\n</section>'


def _changes(audit: Audit) -> list[Panel]:
    """How much each module changed, a line a pair, on a logarithmic scale."""
    pairs = audit.pairs
    colours = {"a and b": "#444444", "parent and a": A, "parent and b": B}
    names = list(dict.fromkeys(m for pair in pairs.values() for m in pair.modules))

    def draw(axes: "Axes") -> None:
        for name, pair in pairs.items():
            at = [names.index(m) for m in pair.modules]
            shown = np.where(pair.relative > 0, 100 * pair.relative, np.nan)
            axes.plot(at, shown, color=colours[name], marker="o", ms=3, lw=1.2,
                      label=audit._said(name))  # fmt: skip
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        low, high = axes.get_ylim()
        axes.yaxis.set_minor_formatter("{x:g}" if high < 10 * low else "")
        axes.set_ylabel("change, % of the norm")
        layers.names_below(axes, names)
        axes.legend(loc="best", fontsize=7, frameon=False)

    if all((pair.relative == 0).all() for pair in pairs.values()):
        return []
    return [Panel("change", "Change by module", draw, 3.0, (0.6, 0.2, 0.7, 0.35), is_wide=True)]


def _line(found: Behaviour) -> Panel:
    def draw(axes: "Axes") -> None:
        drawn = [(found.line, "as they are", "#444444")]
        if found.aligned is not None:
            drawn.append((found.aligned, "units in one order", PARENT))
        for line, name, colour in drawn:
            axes.plot(line.alphas, 100 * line.accuracy, color=colour, lw=1.4, label=name)
        axes.set_ylabel("right, %")
        axes.set_xlabel("share of the second model's weights")
        axes.set_xlim(0, 1)
        axes.set_ylim(bottom=0)
        if len(drawn) > 1:
            axes.legend(fontsize=7, frameon=False)

    return Panel("accuracy", "On the line between them", draw, alt="Accuracy by interpolation.")


def _dropped(found: Behaviour, audit: Audit) -> list[Panel]:
    names = list(found.modules)

    def draw(axes: "Axes") -> None:
        for part, colour, shift in (("a", A, -0.15), ("b", B, 0.15)):
            at = np.arange(len(names)) + shift
            axes.bar(at, 100 * np.nan_to_num(found.dropped[part]), 0.3, color=colour,
                     label=audit.names[part])  # fmt: skip
        axes.set_ylabel("points lost")
        layers.names_below(axes, names)
        axes.set_xlim(-0.6, len(names) - 0.4)
        axes.legend(fontsize=7, frameon=False)

    of = "the parent's" if found.reference == "parent" else "the other's"
    title = f"Accuracy lost with one module of {of}"
    return [Panel("dropped", title, draw, 3.0, (0.5, 0.2, 0.7, 0.35), is_wide=True)]


def _cka(audit: Audit) -> list[Panel]:
    found = audit.behaviour
    assert found is not None
    colours = {"a and b": "#444444", "a and parent": A, "b and parent": B}

    def draw(axes: "Axes") -> None:
        for name, values in found.cka.items():
            axes.plot(values, color=colours[name], lw=1.3, label=audit._said(name))
        axes.set_ylabel("CKA, debiased")
        axes.set_ylim(min(0.0, *(np.nanmin(v) for v in found.cka.values())), 1.02)
        layers.names_below(axes, found.layers)
        axes.legend(loc="best", fontsize=7, frameon=False)

    title = "Similarity of each layer's features"
    return [Panel("cka", title, draw, 3.2, (0.5, 0.2, 0.9, 0.35), is_wide=True)]


def _how() -> str:
    return (
        "<details><summary>How it was computed</summary><p>Change: the norm of the difference of "
        "all weights of a module, by that of the first. Rank: the least number of directions that "
        "hold the squared norm of the change up to a millionth. New directions: of the ten largest "
        "singular vectors of the second matrix those with a cosine below 0.5 with every one of the "
        "first (intruder dimensions, arXiv 2410.21228). Like noise: of full rank, with the stable "
        "rank of independent numbers.</p><p>On data: intervals are 95 % over examples. Two models "
        "share a basin if the error on the line between them rises by at most two points above "
        "the chord. Batch statistics are taken anew at each point, from the images given. CKA is "
        "debiased, of features averaged over positions.</p></details>"
    )


def _plain(value: Any) -> Any:
    """A value for JSON: arrays as lists, what is not finite as null."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if hasattr(value, "_asdict"):
        return _plain(value._asdict())
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _percent(value: float) -> str:
    return "" if math.isnan(value) else "∞" if math.isinf(value) else significant(100 * value, 3)


def _number(value: float) -> str:
    return "" if not math.isfinite(value) else significant(float(value), 3)
