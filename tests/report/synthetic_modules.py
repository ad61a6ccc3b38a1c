"""Synthetic records about modules. Nothing here was measured: P-T needs its head, RI-T all."""

import numpy as np

from tests.report.made import record_of

NAMES = ("stem", "stage1_block1", "stage2_block1", "stage3_block1", "scale", "head")
COUNT, TRAIN = 1_000, 400
TRAINED = {"P-T": 0.96, "RI-T": 0.91}
LOST = {"P-T": (0.0, 0.005, 0.02, 0.3, 0.0, 0.86), "RI-T": (0.7, 0.5, 0.4, 0.8, 0.2, 0.75)}
SIGMAS = np.array([0.0, 0.05, 0.1, 0.2])
STEPS = {"P-T": (0, 8, 32, 100), "RI-T": (0, 8, 99, 100)}


def _inputs(kind, replicate, **more):
    run = {"run": f"{kind} {replicate}", "kind": kind, "shuffle": "none"}
    return {**run, "replicate": replicate, **more}


def rewinding(kind, replicate=1):
    """What is lost falls straight to none with each checkpoint."""
    lost = np.outer(LOST[kind], [1, 2 / 3, 1 / 3, 0])
    results = {"modules": NAMES, "step": STEPS[kind], "accuracy_drop": lost}
    results |= {"accuracy": TRAINED[kind] - lost, "loss": 0.2 + 3 * lost, "trained_loss": 0.2}
    results |= {"trained_accuracy": TRAINED[kind], "num_examples": COUNT, "statistics": "none"}
    inputs = _inputs(kind, replicate, split="test")
    return record_of("rewinding", inputs=inputs, results=results)


def criticality(kind, path="direct", replicate=1, names=NAMES, sigmas=SIGMAS, num_alphas=4):
    """The error is the less, the nearer the end: at the start what is lost, plus the noise."""
    lost = np.resize(LOST[kind], len(names))
    alphas = np.linspace(0, 1, num_alphas)
    error = 0.9 * lost[:, None, None] * (1 - alphas[:, None]) + 2.0 * sigmas**2
    far = (1.0 if kind == "P-T" else 3.0) + np.arange(len(names))
    distances = far[:, None] * alphas
    cost = (distances[:, :, None] / np.maximum(sigmas, 1e-9)) ** 2
    cost = np.where((error <= 0.03) & (sigmas > 0), cost, np.inf).reshape(len(names), -1)
    best, value = cost.argmin(axis=1), cost.min(axis=1)
    a, s = np.divmod(best, len(sigmas))
    results = {"modules": names, "alphas": alphas, "sigmas": sigmas, "distances": distances}
    results |= {"error": error, "threshold": 0.03, "criticality": value, "total": value.sum()}
    results |= {"alpha": alphas[a], "sigma": sigmas[s], "num_draws": 2, "num_examples": TRAIN}
    results |= {"bound": 0.53 if kind == "P-T" else np.nan, "statistics": "none"}
    results |= {"step": STEPS[kind] if path == "optimisation" else STEPS[kind][:: len(STEPS) + 1]}
    inputs = _inputs(kind, replicate, split="train", path=path)
    options = {"tolerance": 0.03, "num_draws": 2}
    return record_of("criticality", inputs=inputs, options=options, results=results)


def movement(kind, replicate=1):
    path = (1.0 if kind == "P-T" else 2.0) * np.arange(4)[:, None] * np.linspace(0.5, 1, 6)
    results = {"modules": NAMES, "step": STEPS[kind], "displacement": 0.8 * path, "path": path}
    results["total_displacement"] = np.linalg.norm(0.8 * path, axis=1)
    inputs = {"run": f"{kind} {replicate}", "kind": kind, "shuffle": "none"}
    return record_of("movement", inputs=inputs, results=results)


def movement_alike(kind, cosine):
    chance = np.array([0.1, 0.05, 0.025, 0.01, 1.0, 0.04])
    found = np.where(chance == 1, 1.0, cosine)
    results = {"modules": NAMES, "cosine": found, "chance": chance, "z": found / chance}
    results |= {"total_cosine": cosine, "total_z": 120 * cosine}
    inputs = {"a": f"{kind} 1", "b": f"{kind} 2", "kind_a": kind, "kind_b": kind}
    return record_of("movement_alignment", inputs=inputs | {"shuffle": "none"}, results=results)


def modules():
    """What a study records of single modules."""
    kinds = ("P-T", "RI-T")
    made = [f(k) for k in kinds for f in (rewinding, movement)]
    made += [criticality(k, path) for k in kinds for path in ("direct", "optimisation")]
    return [*made, movement_alike("P-T", 0.9), movement_alike("RI-T", 0.06)]
