"""Analyses of a model that is split over devices, of one process or several, as JSON.

`python -m tests.helpers.across_processes DEVICES`; several such processes share the model where the
variables of `tlx.train.distributed` say so, and the first prints.
"""

import itertools
import json
import sys

import jax
import jax.numpy as jnp
import numpy as np

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", int(sys.argv[1]))

SIZES = (6, 16, 8, 4)


def make_params(seed):
    rng = np.random.default_rng(seed)
    return {
        str(i): rng.standard_normal(shape).astype(np.float32) / 2
        for i, shape in enumerate(itertools.pairwise(SIZES))
    }


def layers(params, inputs):
    found = {}
    for name, kernel in params.items():
        inputs = jnp.tanh(inputs @ kernel)
        found[name] = inputs
    return found


def apply_fn(params, inputs):
    return layers(params, inputs)["2"]


def analyses(mesh):
    from tlx.analyses import features, landscape
    from tlx.analyses.function import mistakes, predictions
    from tlx.analyses.parameters import distances
    from tlx.core import evaluate_path, labels, metrics, paths, sharding, streams

    a, b = (sharding.place(make_params(seed), mesh) for seed in (0, 1))
    rng = np.random.default_rng(2)
    inputs = rng.standard_normal((37, SIZES[0])).astype(np.float32)
    stream = streams.from_arrays(inputs, rng.integers(0, SIZES[-1], 37), batch_size=8)
    metric, loss = metrics.classification(), metrics.softmax_cross_entropy
    matrix = landscape.hessian(apply_fn, loss, a, stream)
    ball = landscape.sharpness.in_ball(
        apply_fn, loss, a, stream, radius=0.1, key=jax.random.key(0), steps=2
    )
    answers = predictions.collect([(apply_fn, a), (apply_fn, b)], stream)
    models = paths.points([a, b, a])
    modules = labels.from_names(a, str)
    return {
        "line": landscape.line(apply_fn, metric, a, b, stream, alphas=(0.0, 0.4, 1.0)).results,
        "models": evaluate_path(apply_fn, metric, models, np.arange(3), stream),
        "distances": distances.by_module(a, b, modules)[1:],
        "cka": features.cka_matrix(layers, a, layers, b, stream).values,
        "procrustes": features.matrix("procrustes", layers, a, layers, b, stream).values,
        "eigenvalues": landscape.eigenvalues(matrix, order=3, key=jax.random.key(0)).values[0],
        "sharpness": ball.value,
        "mistakes": mistakes.compare(answers).kappa,
    }


def main():
    from tlx.core import sharding
    from tlx.train import distributed

    distributed.initialize_if_cluster()
    sharding.SMALL = 1
    found = analyses(sharding.make_mesh(points=2, model=2))
    if distributed.is_primary():
        print(json.dumps(jax.tree.map(lambda x: np.asarray(x).tolist(), found)))


if __name__ == "__main__":
    main()
