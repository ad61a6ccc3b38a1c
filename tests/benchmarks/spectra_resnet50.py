"""Seconds for all singular values of a ResNet-50.

    python -m tests.benchmarks.spectra_resnet50

224x224 inputs, 1000 classes, random parameters, every layer; `ratio` is the seconds of the
circular spectra over the 60 that they may take on two cores.
"""

import collections
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tests.benchmarks import timing
from tlx import models
from tlx.adapters import linen
from tlx.analyses.parameters import spectra
from tlx.core import tree

MOST_SECONDS = 60


def main() -> None:
    for line in lines():
        timing.emit(**line)


def lines() -> Iterator[dict[str, Any]]:
    """The benchmark's results, as arguments of `timing.emit`."""
    module = models.make("resnet50", num_classes=1000, head_init="uniform")
    inputs = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    variables = jax.jit(module.init)(jax.random.key(0), jnp.zeros(inputs.shape))
    apply_fn, params = linen.adapt(module, dict(variables))
    found: dict[str, Any] = {}
    seconds = {
        kind: timing.seconds(lambda kind=kind: found.update(_spectra(apply_fn, params, kind)))
        for kind in ("circular", "reshaped")
    }
    whole = found["circular"]
    yield {
        "benchmark": "spectra_resnet50",
        "ratio": round(seconds["circular"] / MOST_SECONDS, 3),
        "aim": 1.0,
        "seconds": round(seconds["circular"], 2),
        "reshaped_seconds": round(seconds["reshaped"], 2),
        "layers": len(whole.layers),
        "singular_values": int(whole.summaries.num_values.sum()),
        "seconds_without_summaries": _parts(apply_fn, params, inputs),
    }


def _spectra(apply_fn: Any, params: Any, kind: str) -> dict[str, spectra.Spectra]:
    inputs = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    return {kind: spectra.of_model(apply_fn, params, inputs, kind=kind)}


def _parts(apply_fn: Any, params: Any, inputs: Any) -> dict[str, float]:
    """Seconds by the taps of the kernels and the size of the feature maps."""
    leaves = tree.named_leaves(params)
    parts: dict[str, float] = collections.defaultdict(float)
    for name, layer in spectra.layers(apply_fn, params, inputs).items():
        kernel = np.asarray(leaves[name])
        if layer.kind == "dense":
            parts["dense"] += timing.seconds(lambda kernel=kernel: spectra.dense(kernel))
            continue
        taps = "x".join(map(str, layer.shape[:2]))
        part = taps if taps == "1x1" else f"{taps} at {layer.size[0]}"
        parts[part] += timing.seconds(
            lambda kernel=kernel, size=layer.size: spectra.circular(kernel, size)
        )
    return {part: round(value, 2) for part, value in parts.items()}


if __name__ == "__main__":
    main()
