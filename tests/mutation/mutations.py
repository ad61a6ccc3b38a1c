"""What a mutation is: one line of tlx made wrong, and the tests that should see it."""

import hashlib
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]


class Mutation(NamedTuple):
    """A fault in one line.

    Attributes:
      file: below tlx/.
      old: text that the file holds exactly once, within a line.
      new: what stands there instead.
      tests: file below tests/, or test in it, that should fail; several by spaces.
      reason: why no test can see it, where that is so; else empty.
    """

    file: str
    old: str
    new: str
    tests: str
    reason: str = ""

    @property
    def paths(self) -> list[str]:
        """The tests, as paths from the root."""
        return [f"tests/{name}" for name in self.tests.split()]

    def mutated(self, root: Path = ROOT) -> str:
        """The text of the file with the fault in it.

        Raises:
          ValueError: if the old text does not occur exactly once: the table is stale.
        """
        text = (root / "tlx" / self.file).read_text()
        if text.count(self.old) != 1 or self.old == self.new or "\n" in self.old + self.new:
            raise ValueError(
                f"tlx/{self.file}: expected {self.old!r} once and within a line, got "
                f"{text.count(self.old)} times; mend its mutation in tests/mutation"
            )
        return text.replace(self.old, self.new)

    def digest(self, root: Path = ROOT) -> str:
        """Differs where the faulty file, the tests or their choice do."""
        texts = [self.mutated(root), self.tests]
        texts += [(root / path.partition("::")[0]).read_text() for path in self.paths]
        return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]
