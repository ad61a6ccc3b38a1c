"""The questions of a study about single layers: their spectra, and what can be read from them."""

from typing import Any

import numpy as np

from tlx import checkpoints
from tlx.adapters import linen
from tlx.analyses.features.transfer import probes
from tlx.analyses.parameters import spectra
from tlx.studies import asking
from tlx.studies.asking import Question
from tlx.studies.plan import Pair, Run
from tlx.train.job import make_module

QUANTILES = np.linspace(0, 1, 101)
"""Of a layer's singular values, of which there can be a million."""

SUMMARY = ("spectral_norm", "frobenius_norm", "stable_rank", "effective_rank", "alpha")
"""The fields of a `spectra.Summary` that are recorded."""


def spectrum(run: Run, kind: str) -> Question:
    """The singular values of every layer of a run, at its checkpoints."""

    def answer() -> dict[str, Any]:
        steps = checkpoints.steps(run.workdir)
        first = next(iter(asking.stream(run)()))["inputs"]
        found = [
            spectra.of_model(asking.apply_fn(run), asking.params(run, step), first, kind=kind)
            for step in steps
        ]
        last = found[-1]
        return {
            "step": list(steps),
            "layers": [asking.layer_name(leaf) for leaf in last.layers],
            "is_conv": last.is_conv,
            **{name: np.stack([getattr(x.summaries, name) for x in found]) for name in SUMMARY},
            "quantiles": QUANTILES,
            "singular_values": np.stack([_quantiles(last, name) for name in last.layers]),
        }

    inputs = {"run": run.name, "kind": run.kind, "shuffle": run.shuffle}
    data = {"checkpoints": asking.identities_by_step(run)}
    return Question("spectra", inputs, {"kind": kind}, data, answer)


def probed(of: Pair, step: int | None = None) -> Question:
    """How well the target's classes can be read from each layer of a run by a linear map.

    The first of the pair is the run whose layers are read, the second the one whose target it
    is. Of step 0 of a run from random weights the kind is "RI".
    """
    run, target = of
    step = run.spec.num_steps if step is None else step

    def answer() -> dict[str, Any]:
        found = probes.linear_probes(
            linen.features(make_module(run.spec)),
            asking.params(run, step),
            asking.stream(target, "train"),
            asking.stream(target, "test"),
            num_classes=make_module(target.spec).num_classes,
        )
        return {
            "layers": list(found.layers),
            "accuracy": found.accuracy,
            "low": found.low,
            "high": found.high,
            "ridge": found.ridge,
            "num_features": found.num_features,
            "num_train": found.num_train,
            "count": found.num_test,
            "num_classes": found.num_classes,
            "spatial": found.spatial,
        }

    inputs = {
        "run": run.name,
        "kind": "RI" if step == 0 and run.spec.init_from is None else run.kind,
        "shuffle": target.shuffle,
        "step": step,
        "split": "test",
    }
    data = {
        "weights": checkpoints.identity(checkpoints.origin(run.workdir, step)),
        "examples": asking.examples_of(target),
    }
    return Question("probes", inputs, {}, data, answer)


def _quantiles(of: spectra.Spectra, layer: str) -> np.ndarray:
    """Evenly spaced order statistics of a layer's values, the largest first."""
    values, times = of.values[layer], of.multiplicities[layer]
    ends = np.cumsum(times)
    place = np.searchsorted(ends, QUANTILES * (ends[-1] - 1), side="right")
    return values[np.minimum(place, len(values) - 1)]
