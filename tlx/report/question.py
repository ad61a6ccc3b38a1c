"""A question of the page: the type that each room of `tlx.report.questions` has one of."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from tlx.report.draw.panels import Panel
from tlx.report.read.selection import Records
from tlx.report.words.kinds import Pair
from tlx.report.words.table import Table
from tlx.report.words.verdicts import together


class Check(NamedTuple):
    """A claim of the paper, and whether it held here."""

    claim: str
    verdict: str


class Answer(NamedTuple):
    """What was found, in a sentence or two and in one short one (None: no data)."""

    sentence: str | None
    short: str | None = None
    checks: tuple[Check, ...] = ()

    @property
    def verdict(self) -> str:
        """The claims taken together."""
        return together([c.verdict for c in self.checks])

    @property
    def first(self) -> str:
        """The verdict on the first claim; "" where there is none."""
        return self.checks[0].verdict if self.checks else ""


NOTHING = Answer(None)


class Finding(NamedTuple):
    """What the paper reports about one question: where, in words, and its numbers."""

    source: str
    text: str
    table: Table | None = None


class KeyNumber(NamedTuple):
    """A row of the page's first table: a quantity of each kind, as text.

    Attributes:
      name: of the quantity.
      cells: by kind of run, or of two of a kind: "P-T", "S-T", "RI-T".
      verdict: whether the paper's order holds; None takes that of the question's answer.
    """

    name: str
    cells: Mapping[str, str]
    verdict: str | None = None


class Part(NamedTuple):
    """A figure of a question, with what stands under it; each is made from a study's records.

    Attributes:
      name: of the figure, also in `tlx.report.figures`.
      panels: what is drawn; none without data.
      caption: of what runs, pairs and images it is; of a figure that has panels.
      table: None without data; a part may have none.
      heading: over the figure, where the question has several.
      is_addition: whether the paper has nothing of it.
    """

    name: str
    panels: Callable[[Records], list[Panel]]
    caption: Callable[[Records], str]
    table: Callable[[Records], Table | None] | None = None
    heading: str = ""
    is_addition: bool = False


class Question(NamedTuple):
    """A section of the page.

    Attributes:
      name: its anchor.
      title: the question.
      answer: from a study's records; `NOTHING` without data.
      parts: first what the paper has too, then the additions; or the other way round.
      how: it was computed, in paragraphs.
      finding: what the paper found.
      key_numbers: its rows of the page's first table.
    """

    name: str
    title: str
    answer: Callable[[Records], Answer]
    parts: tuple[Part, ...]
    how: str
    finding: Finding
    key_numbers: Callable[[Records], Sequence[KeyNumber]] = lambda records: ()


def of_two(cells: Mapping[Pair, str]) -> dict[str, str]:
    """The cells of pairs of two of a kind, by that kind."""
    return {kinds[0]: cell for kinds, cell in cells.items() if kinds[0] == kinds[1]}
