"""The steps to keep, the steps that are kept, and the best of them."""

from collections.abc import Mapping
from pathlib import Path

import orbax.checkpoint as ocp

from tlx.core import checks

FOLDER = "checkpoints"
NAMES = ("last", "best")


def scheduled(
    num_steps: int, *, rule: str = "none", steps: tuple[int, ...] = (), every: int = 0
) -> frozenset[int]:
    """The steps to keep of a run, step 0 and the last always among them.

    Args:
      num_steps: the last step.
      rule: "log2" adds 1, 2, 4, 8 …; "none" nothing.
      steps: further steps; those after `num_steps` are left out.
      every: adds the multiples of it; 0: none.

    Raises:
      ValueError: the rule is not known.

    >>> sorted(scheduled(10, rule="log2"))
    [0, 1, 2, 4, 8, 10]
    """
    if rule not in ("none", "log2"):
        raise ValueError(checks.unknown("rule of checkpoint steps", rule, ("none", "log2")))
    chosen = {0, num_steps, *steps}
    if rule == "log2":
        chosen |= {2**i for i in range(num_steps.bit_length())}
    if every:
        chosen |= set(range(0, num_steps + 1, every))
    return frozenset(step for step in chosen if 0 <= step <= num_steps)


def best_of(scores: Mapping[int, float | None]) -> int | None:
    """The step with the highest score, the earliest of equals; None if none has a score.

    A score that is None or NaN never wins.

    >>> best_of({0: 0.1, 5: 0.9, 7: float("nan"), 9: 0.9})
    5
    """
    valid = {step: score for step, score in scores.items() if score is not None and score == score}
    return max(sorted(valid), key=lambda step: valid[step]) if valid else None


def steps(workdir: str | Path) -> tuple[int, ...]:
    """The steps with saved weights, ascending; () for a workdir without checkpoints.

    A checkpoint whose writing was interrupted does not count.
    """
    folder = Path(workdir) / FOLDER
    if not folder.is_dir():
        return ()
    return tuple(sorted(ocp.utils.checkpoint_steps(folder)))
