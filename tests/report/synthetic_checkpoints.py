"""Synthetic lines between checkpoints, and between many runs. Formulas; nothing was measured."""

import itertools

import numpy as np

from tests.report.made import record_of

ALPHAS = np.linspace(0, 1, 5)


def line(at, a, b, accuracy, num=1000):
    accuracy = np.asarray(accuracy, np.float64)
    chord = accuracy[0] + ALPHAS * (accuracy[-1] - accuracy[0])
    dip = max(0.0, float((chord - accuracy).max()))
    results = {"alphas": ALPHAS, "accuracy": accuracy, "loss": 2 - 2 * accuracy}
    results |= {"num_examples": num, "accuracy_barrier": dip, "barrier_chord": 2 * dip}
    for name, value in (("accuracy_barrier", dip), ("barrier_chord", 2 * dip)):
        results |= {f"{name}_low": value - 0.01, f"{name}_high": value + 0.01}
    inputs = {"a": a, "b": b, "kind_a": a[:-2], "kind_b": b[:-2], "at": at, "split": "test"}
    return record_of(
        "checkpoint_interpolation", inputs=inputs, results=results, options={"confidence": 0.95}
    )


def every():
    made = []
    for kind, end in (("P-T", 0.9), ("RI-T", 0.8)):
        runs = [f"{kind} {i}" for i in (1, 2, 3)]
        for i, run in enumerate(runs):
            top = end + 0.01 * i
            made.append(line("start / last", run, run, [0.1, 0.3, 0.6, top + 0.02, top]))
            made.append(line("best / last", run, run, [top + 0.01, top, top, top, top]))
        for a, b in ((0, 1), (0, 2), (1, 2)):
            middle = end if kind == "P-T" else 0.2
            made.append(line("best / best", runs[a], runs[b], [end, end, middle, end, end]))
    return made


def interpolation(a, b, height):
    alphas = np.linspace(0, 1, 3)
    results = {"alphas": alphas, "accuracy": [0.9, 0.9 - height, 0.9], "loss": [1, 1, 1]}
    results |= {"accuracy_barrier": height, "num_examples": 100}
    inputs = {"a": a, "b": b, "kind_a": "P-T", "kind_b": "P-T"}
    return record_of("interpolation", inputs=inputs, results=results)


def pairs(apart=()):
    """Five runs, of which those in `apart` are across a barrier from the others."""
    names = [f"P-T {i}" for i in range(1, 6)]
    return [
        interpolation(a, b, 0.5 if (a in apart) != (b in apart) else 0.01)
        for a, b in itertools.combinations(names, 2)
    ]
