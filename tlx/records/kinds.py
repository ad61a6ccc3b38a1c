"""The kinds of record by question, and what is wrong with names that are not theirs."""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from tlx.records import results as of


class Kind(NamedTuple):
    """What a record of one kind holds, and by what it is found.

    Attributes:
      results: its NamedTuple.
      inputs: names that its inputs must have.
      more: names that they may have.
      options: names that its options may have.
    """

    results: Any
    inputs: frozenset[str]
    more: frozenset[str] = frozenset()
    options: frozenset[str] = frozenset()


def _kind(results: Any, inputs: str, more: str = "", options: str = "") -> Kind:
    return Kind(results, *(frozenset(words.split()) for words in (inputs, more, options)))


_OF_PAIR = "a b kind_a kind_b", "pair shuffle split"
_CKA = "batch_size spatial num_resamples confidence"
_ON_LINE = "num_alphas confidence"

KINDS: Mapping[str, Kind] = {
    "learning_curve": _kind(
        of.LearningCurve, "run kind", "shuffle replicate target rate further_rate part cell"
    ),
    "mean_learning_curves": _kind(
        of.MeanLearningCurves, "target", "split", "confidence selected_on"
    ),
    "sweep": _kind(of.Sweep, "axis target", "split", "confidence selected_on"),
    "checkpoints": _kind(of.Checkpoints, "run", "split", "num_alphas tolerance confidence"),
    "domains": _kind(of.Domains, "run", "", "layer"),
    "transferability": _kind(of.Transferability, "axis target", "split", "layer probe_split"),
    "mistakes": _kind(of.Mistakes, "models kinds", "target split", "confidence threshold shown"),
    "interpolation": _kind(of.Interpolation, *_OF_PAIR, _ON_LINE),
    "plane": _kind(of.Plane, "models kinds", "split", "num_points"),
    "basin": _kind(of.Basin, *_OF_PAIR, "loss noise num_draws tolerance confidence"),
    "permutation": _kind(of.Permutation, *_OF_PAIR, _ON_LINE),
    "similarity": _kind(of.Similarity, *_OF_PAIR, _CKA),
    "similarity_by_step": _kind(of.SimilarityByStep, *_OF_PAIR, _CKA),
    "linear_probes": _kind(of.LinearProbes, "run kind", "shuffle step split"),
    "rewinding": _kind(of.Rewinding, "run kind", "shuffle replicate split", "confidence"),
    "criticality": _kind(
        of.Criticality,
        "run kind path",
        "shuffle replicate split",
        "num_alphas sigmas num_draws tolerance",
    ),
    "distances": _kind(of.Distances, *_OF_PAIR, "totals_without"),
    "movement": _kind(of.Movement, "run kind", "shuffle"),
    "movement_alignment": _kind(of.MovementAlignment, *_OF_PAIR, "rank"),
    "spectra": _kind(of.Spectra, "run kind", "shuffle", "kind"),
    "study": _kind(of.Study, "name", "", "config"),
}
"""The kinds of record that a study writes and the page shows, by question."""


def incomplete(results: Any, **known: Any) -> Any:
    """Results of which only some fields are known; the others are NaN.

    For a record made by hand, whose page then says "no data" where they are needed.

    Args:
      results: one of the NamedTuples of `tlx.records.results`.
      **known: its fields.

    Raises:
      ValueError: for a name that is none of its fields.
    """
    problems = differences(results.__name__, known, (), results._fields)
    if problems:
        raise ValueError("; ".join(problems))
    return results(**{name: known.get(name, of.UNDEFINED) for name in results._fields})


def differences(
    what: str, names: Iterable[str], needed: Iterable[str], allowed: Iterable[str]
) -> list[str]:
    """What is wrong with the names in something, each in a few words."""
    names, needed = set(names), set(needed)
    known = needed | set(allowed)
    missing = sorted(needed - names)
    return [f"{what} lack {', '.join(missing)}"] * bool(missing) + [
        f"{what} have an unknown name {name!r}{nearest(name, known)}"
        for name in sorted(names - known)
    ]


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name that is nearest to another, in brackets; "" where none is near."""
    near = difflib.get_close_matches(name, sorted(known), 1)
    return f" (nearest: {near[0]!r})" if near else ""
