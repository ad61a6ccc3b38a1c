"""Synthetic records of a small study. Nothing here was measured: curves are formulas."""

from itertools import combinations

import numpy as np

from tests.report import synthetic_sweeps
from tests.report.made import changed, record_of
from tests.report.synthetic_checkpoints import every as checkpoint_lines
from tests.report.synthetic_instability import every as copies
from tests.report.synthetic_mistakes import mistakes
from tests.report.synthetic_modules import criticality, modules
from tests.report.synthetic_starts import starts_records

NUM_TEST, NUM_TRAIN, CLASSES = 1_397, 400, 10
LAYERS = ("stem", "stage1_block1", "stage2_block1", "stage3_block1", "pooled", "logits")
MODULES = ("stem", "stage1_block1", "stage2_block1", "stage3_block1", "head")
FINAL = {"P-T": 0.965, "RI-T": 0.915}
OPTIONS = {"spatial": "flatten", "num_resamples": 200, "confidence": 0.95, "batch_size": 512}
KINDS = {f"{name}{i}": kind for name, kind in (("pt", "P-T"), ("rit", "RI-T")) for i in range(3)}
KINDS |= {"p": "P"}
PAIRS = (
    ("pt0", "pt1"),
    ("rit0", "rit1"),
    ("pt0", "rit0"),
    ("rit1", "pt1"),
    ("pt0", "p"),
    ("pt1", "p"),
    ("rit0", "p"),
)


def inputs_of(a, b, **more):
    kinds = {"kind_a": KINDS[a], "kind_b": KINDS[b], "pair": f"{KINDS[a]} / {KINDS[b]}"}
    return {"a": a, "b": b, **kinds, "split": "test", **more}


def curve(kind, shuffle, replicate):
    size = {"none": 32, "block:1": 1}.get(shuffle) or int(shuffle.split(":")[1])
    final = FINAL[kind] - (0.05 if kind == "P-T" else 0.06) * (5 - np.log2(size))
    final += 0.004 * (replicate - 0.5)
    step = np.arange(0, 601, 20)
    rise = 1 - np.exp(-step / (40 if kind == "P-T" else 110))
    test = 0.1 + (final - 0.1) * rise
    train = 0.1 + (min(1.0, final + 0.03) - 0.1) * rise
    results = {
        "step": step,
        "test_accuracy": np.round(test * NUM_TEST) / NUM_TEST,
        "test_loss": -2.2 * np.log(0.05 + 0.95 * test),
        "train_accuracy": train,
        "train_loss": -2.0 * np.log(0.05 + 0.95 * train),
        "average_train_accuracy": float(train[1:].mean()),
        "num_test": NUM_TEST,
        "num_train": NUM_TRAIN,
    }
    inputs = {"run": f"synthetic_{kind}_{shuffle}_{replicate}", "kind": kind, "shuffle": shuffle}
    inputs |= {"replicate": replicate, "target": "synthetic digits"}
    return record_of("learning_curve", inputs=inputs, results=results, meta={"seconds": 4.25})


def interpolation(a, b):
    alphas = np.linspace(0, 1, 21)
    ends = [FINAL[KINDS[x]] for x in (a, b)]
    hill = np.sin(np.pi * alphas) ** 2
    joined = KINDS[a] == KINDS[b] == "P-T"
    chord = (1 - alphas) * ends[0] + alphas * ends[1]
    accuracy = chord + (0.006 if joined else -0.78) * hill
    loss = 0.3 * (1 - chord) * 4 + (-0.01 if joined else 2.1) * hill
    results = {
        "alphas": alphas,
        "loss": loss,
        "accuracy": accuracy,
        "num_examples": NUM_TEST,
        "barrier_chord": max(0.0, float(np.max(loss - np.interp(alphas, [0, 1], loss[[0, -1]])))),
        "barrier_endpoint_mean": float(np.max(loss - loss[[0, -1]].mean())),
        "accuracy_barrier": float(np.max(chord - accuracy)),
        "statistics": "none",
    }
    for name, half in (("barrier_chord", 0.02 if joined else 0.06), ("accuracy_barrier", 0.02)):
        results |= {f"{name}_low": max(0.0, results[name] - half)}
        results |= {f"{name}_high": results[name] + half}
    options = {"confidence": 0.95}
    return record_of("interpolation", inputs=inputs_of(a, b), options=options, results=results)


def plane(*names):
    """Two valleys: around the line between the P-T, and around each RI-T."""
    sides = [2.0 if KINDS[a] == KINDS[b] == "P-T" else 8.6 for a, b in combinations(names, 2)]
    third = (sides[1] ** 2 - sides[2] ** 2) / (2 * sides[0]) + sides[0] / 2
    models = np.array([[0, 0], [sides[0], 0], [third, np.sqrt(sides[1] ** 2 - third**2)]])
    span = max(np.ptp(models, axis=0)) * 0.35
    low, high = models.min(axis=0) - span, models.max(axis=0) + span
    x, y = (np.linspace(low[i], high[i], 25) for i in (0, 1))
    grid = np.stack(np.meshgrid(x, y), axis=-1)
    depth = [
        np.exp(-np.sum((grid - at) ** 2, axis=-1) / (10 if KINDS[n] == "P-T" else 4))
        for n, at in zip(names, models, strict=True)
    ]
    far = np.sum((grid - models.mean(axis=0)) ** 2, axis=-1) / 60
    well = 1 - np.prod([1 - 0.99 * d for d in depth], axis=0)
    loss = np.exp(np.log(0.12) * well + np.log(4 + 6 * far) * (1 - well))
    results = {"x": x, "y": y, "loss": loss, "accuracy": 0.1 + 0.87 * well**1.5}
    results |= {"models_xy": models, "num_examples": NUM_TEST, "statistics": "none"}
    results |= {"model_loss": [0.13] * 3, "model_accuracy": [FINAL[KINDS[n]] for n in names]}
    inputs = {"models": list(names), "kinds": [KINDS[n] for n in names], "split": "test"}
    return record_of("plane", inputs=inputs, results=results)


def basin(a, b):
    joined = KINDS[a] == KINDS[b] == "P-T"
    epsilon, height = (0.0031, 0.006) if joined else (0.271, 0.78)
    deltas = 400 * 0.005 * np.geomspace(0.25, 16, 13)
    rise = 0.85 * (1 - np.exp(-((deltas / 11) ** 2))) - (0.0004 if joined else 0.41)
    results = {
        "verdict": "yes" if joined else "no",
        **{"barrier": 0.01 if joined else 2.1, "error_barrier": height, "tolerance": 0.02},
        **{"barrier_low": 0.0 if joined else 2.03, "barrier_high": 0.03 if joined else 2.17},
        **{"error_low": max(0, height - 0.005), "error_high": height + 0.008},
        **{"mean_loss": 0.034 if joined else 0.49, "epsilon": epsilon},
        **{"epsilon_error": epsilon / 9, "deltas": deltas, "num_draws": 64},
        **{"noise_rise": rise, "noise_rise_error": 0.06 * np.abs(rise) + 0.0005},
        **{"beyond_rise": 0.6 * rise, "beyond_rise_error": 0.08 * np.abs(rise) + 0.0005},
        **{"delta": deltas[3] if joined else np.nan, "num_parameters": 160_000},
        **{"num_examples": NUM_TEST, "statistics": "none"},
    }
    options = {"confidence": 0.95, "loss": "error"}
    return record_of("basin", inputs=inputs_of(a, b), options=options, results=results)


def permutation(a, b):
    alphas = np.linspace(0, 1, 11)
    hill, end = np.sin(np.pi * alphas) ** 2, FINAL["RI-T"]
    left = {"plain": 1.0, "weights": 0.62, "activations": 0.5, "repaired": 0.17}
    share = np.array(list(left.values()))
    results = {"alphas": alphas, "variants": list(left), "num_units": 240, "statistics": "none"}
    results |= {"loss": 0.1 + 2.1 * share[:, None] * hill, "num_examples": NUM_TEST}
    results |= {"accuracy": end - 0.78 * share[:, None] ** 0.7 * hill}
    for name, value in (("barrier", 2.1 * share), ("accuracy_barrier", 0.78 * share**0.7)):
        results |= {name: value, f"{name}_low": value - 0.02, f"{name}_high": value + 0.02}
    results |= {"distance": [18.1, 15.2, 16.0, np.nan]}
    return record_of("permutation", inputs=inputs_of(a, b), results=results)


def similarity(a, b, shuffle="none", *, evidence=True):
    close = {("P-T", "P-T"): 0.96, ("P-T", "P"): 0.9, ("RI-T", "RI-T"): 0.62}
    top = close.get((KINDS[a], KINDS[b]), 0.5) - (0.0 if shuffle == "none" else 0.04)
    i = np.arange(len(LAYERS))
    apart = np.abs(i[:, None] - i[None, :])
    matrix = top * np.exp(-0.25 * apart) * (1 - 0.06 * np.maximum(i[:, None], i[None, :]))
    matrix[0, -1] = -0.01
    results = {"layers_a": LAYERS, "layers_b": LAYERS, "debiased": matrix, "num_examples": NUM_TEST}
    results["biased"] = np.clip(matrix + 0.03, 0, 1)
    inputs = inputs_of(a, b, **({} if shuffle == "none" else {"shuffle": shuffle}))
    if not evidence:  # as it was recorded before there was any
        return record_of("similarity", inputs=inputs, results=results)
    results |= evidence_of(matrix)
    return record_of("similarity", inputs=inputs, results=results, options=OPTIONS)


def evidence_of(values):
    found = {"low": values - 0.011, "high": values + 0.009, "z": 560 * values}
    return found | {"chance": np.full(values.shape, 0.07), "too_few": values < -1}


def trajectory(a):
    """P-T leaves P, the higher a layer the more; its head starts from zeros. RI-T comes nearer."""
    step, depth = np.array([0, 1, 2, 4, 8, 16, 32, 64, 100]), np.arange(len(LAYERS))
    way = np.log2(1 + step)[:, None] / np.log2(101) * (1 + depth[None]) / len(LAYERS)
    leaves = KINDS[a] == "P-T"
    values = 1 - 0.4 * way if leaves else 0.2 + 0.3 * way
    values[0, -1] = np.nan
    results = {"step": step, "layers": LAYERS, "debiased": values, "num_examples": NUM_TEST}
    results |= {"biased": np.clip(values + 0.02, 0, 1), **evidence_of(values)}
    inputs = inputs_of(a, "p", shuffle="none")
    return record_of("similarity_by_step", inputs=inputs, results=results, options=OPTIONS)


def distances(a, b):
    scale = {("P-T", "P-T"): 2.0, ("RI-T", "RI-T"): 9.0, ("P-T", "P"): 1.6}
    own = scale.get((KINDS[a], KINDS[b]), 8.5)
    own *= 1 + 0.004 * sum(int(name[-1]) for name in (a, b) if name != "p")
    modules = MODULES[:-1] if "p" in (a, b) else MODULES
    l2 = own * np.linspace(0.4, 1.3, len(modules))
    results = {
        "modules": modules,
        "l2": l2,
        "relative": l2 / 7,
        "cosine": 1 - l2 / 14,
        "total_l2": float(np.sqrt(np.sum(l2**2))),
        "total_sum_of_tensor_norms": float(2.7 * l2.sum()),
    }
    options = {"totals_without": ["head"]}
    return record_of("distances", inputs=inputs_of(a, b), options=options, results=results)


def of_distances(runs=3):
    """Between all runs of a kind, between the kinds, and of all to P."""
    own = [[f"{name}{i}" for i in range(runs)] for name in ("pt", "rit")]
    pairs = [pair for kind in own for pair in combinations(kind, 2)]
    pairs += [("pt0", "rit0"), ("rit1", "pt1"), *((run, "p") for kind in own for run in kind)]
    return [distances(a, b) for a, b in pairs]


def part(word, final):
    """A run that starts from some modules of P only."""
    made = curve("P-T", "none", 0)
    test = np.round(made.test_accuracy * final / FINAL["P-T"] * NUM_TEST) / NUM_TEST
    inputs = {"run": f"P-T {word}", "kind": "P-T part", "part": word}
    return changed(made, inputs=inputs, test_accuracy=test)._replace(meta=made.meta)


def probes(kind, top, *, step=100):
    accuracy = np.array([0.3, 0.4, 0.5, 1.0, 1.0, 0.9]) * top
    results = {"layers": LAYERS, "accuracy": accuracy, "low": accuracy - 0.02}
    results |= {"high": accuracy + 0.01, "ridge": [0.001] * 6, "num_features": [8] * 6}
    results |= {"num_train": NUM_TRAIN, "num_examples": NUM_TEST, "num_classes": CLASSES}
    inputs = {"run": f"{kind} 1", "kind": kind, "shuffle": "none", "step": step, "split": "test"}
    return record_of("linear_probes", inputs=inputs, results=results | {"spatial": "pool"})


def spectra(kind, top, *, num_layers=4):
    """Each layer's values fall by a power of ten; the stable rank is that of the top's square."""
    quantiles, depth = np.linspace(0, 1, 101), 1.0 + np.arange(num_layers)
    values = top * depth[:, None] * 10 ** -(depth[:, None] * quantiles)
    last = {"spectral_norm": top * depth, "stable_rank": 12 * depth / top**2}
    results = {name: np.stack([0.5 * value, value]) for name, value in last.items()}
    results |= {
        "step": [0, 100],
        "layers": [f"stage{i + 1}_block1/conv" for i in range(num_layers)],
    }
    results |= {"quantiles": quantiles, "singular_values": values}
    inputs = {"run": kind if kind == "P" else f"{kind} 1", "kind": kind, "shuffle": "none"}
    return record_of("spectra", inputs=inputs, options={"kind": "circular"}, results=results)


def layers():
    """What a study records of single layers."""
    tops = {"P": 0.9, "P-T": 0.96, "RI-T": 0.93}
    made = [probes(kind, top) for kind, top in tops.items()] + [probes("RI", 0.4, step=0)]
    made += [spectra(kind, top) for kind, top in {"P": 1.0, "P-T": 1.25, "RI-T": 2.0}.items()]
    made += [part(f"first:{k}", v) for k, v in {1: 0.92, 2: 0.963, 3: 0.966}.items()]
    return [*made, part("first:2:frozen", 0.87), part("except:2", 0.931)]


def study():
    return record_of(
        "study",
        inputs={"name": "synthetic"},
        options={"config": {"name": "synthetic", "seed": 0}},
        results={"run": ["a", "b", "c"], "seconds": [100.25, 140.0, np.nan]},
        meta={"seconds": 0.01, "versions": {"tlx": "0", "jax": "0"}},
    )


def synthetic_records():
    shuffles = ("none", "block:1", "block:4", "block:8", "block:16")
    made = [curve(k, s, r) for k in ("P-T", "RI-T") for s in shuffles for r in (0, 1)]
    for a, b in PAIRS:
        made.append(similarity(a, b))
        if "p" not in (a, b):
            made.append(interpolation(a, b))
    made += of_distances()
    made += [plane("pt0", "pt1", "rit0"), plane("rit0", "rit1", "pt0")]
    made += [basin("pt0", "pt1"), basin("rit0", "rit1"), permutation("rit0", "rit1")]
    for shuffle in ("block:4", "block:8"):
        made += [similarity(a, b, shuffle) for a, b in (("pt0", "p"), ("pt0", "rit0"))]
    made += [similarity(a, b, "block:8") for a, b in (("pt0", "pt1"), ("rit0", "rit1"))]
    made += [trajectory("pt0"), trajectory("rit0"), mistakes()]
    made += [synthetic_sweeps.learning(), synthetic_sweeps.with_arm(synthetic_sweeps.shuffled())]
    made += [criticality(kind, replicate=i) for kind in ("P-T", "RI-T") for i in (2, 3)]
    made += copies() + checkpoint_lines()
    return [*made, study(), *layers(), *modules(), *starts_records()]
