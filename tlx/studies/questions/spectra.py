"""The singular values of the layers of a run."""

import dataclasses
from typing import ClassVar

import numpy as np

from tlx import checkpoints
from tlx.analyses.parameters import spectra
from tlx.core import checks
from tlx.records import results
from tlx.studies import keys, trained
from tlx.studies.question import Question, arrays
from tlx.studies.runs import Plan, Run

QUANTILES = np.linspace(0, 1, 101)
"""Of a layer's singular values, of which there can be a million."""

SUMMARY = ("spectral_norm", "frobenius_norm", "stable_rank", "effective_rank", "alpha")
"""The fields of a `spectra.Summary` that are recorded."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spectra(Question):
    """The singular values of every layer of a run, at its checkpoints.

    Attributes:
      kind: how convolutions are seen: "circular" (with circular padding, exact), "reshaped" (the
        kernel as a matrix) or "operator" (with the layer's own padding and strides; the largest
        values only).
    """

    version: ClassVar[int] = 1
    replicates: ClassVar[int] = 1

    kind: str = "circular"

    def problems(self) -> list[str]:
        """Everything that is wrong with its options."""
        if self.kind in spectra.KINDS:
            return []
        return [f"kind: {checks.unknown('kind', self.kind, spectra.KINDS)}"]

    def subjects(self, plan: Plan) -> list[Run]:
        """P, and the first run of every kind."""
        return [plan.source, *plan.firsts()]

    def key(self, run: Run) -> keys.Key:
        """Of one run."""
        return keys.of_checkpoints(run)

    def answer(self, run: Run) -> results.Spectra:
        """Their quantiles, and a summary by step."""
        steps = checkpoints.steps(run.workdir)
        apply_fn, inputs = trained.apply_fn(run), trained.first_inputs(run)
        by_step = [
            spectra.of_model(apply_fn, trained.params(run, step), inputs, kind=self.kind)
            for step in steps
        ]
        last = by_step[-1]
        return arrays(
            results.Spectra,
            step=list(steps),
            layers=[trained.layer_name(leaf) for leaf in last.layers],
            is_conv=last.is_conv,
            **{
                name: np.stack([getattr(one.summaries, name) for one in by_step])
                for name in SUMMARY
            },
            quantiles=QUANTILES,
            singular_values=np.stack([_quantiles(last, name) for name in last.layers]),
        )


def _quantiles(of: spectra.Spectra, layer: str) -> np.ndarray:
    """Evenly spaced order statistics of a layer's values, the largest first."""
    values, times = of.values[layer], of.multiplicities[layer]
    ends = np.cumsum(times)
    place = np.searchsorted(ends, QUANTILES * (ends[-1] - 1), side="right")
    return values[np.minimum(place, len(values) - 1)]
