"""Synthetic records of P's checkpoints and of other targets. Nothing here was measured."""

import numpy as np

from tests.report.made import record_of

STEPS = (0, 1, 4, 16, 64, 150, 300, 600)
SIZES = (50, 100, 200, 400, 1_600)
TARGETS = {"usps": 3.1, "pen digits": 7.4, "kana": 11.8, "letters": 12.4, "clothes": 24.0}
NUM_TEST, SOURCE = 1_397, 2_000


def sweep(axis, values, ends, speeds, *, num_seeds=3, half=0.008, **more):
    """A sweep whose mean final and average accuracies are given: kind -> [C]."""
    kinds, size = list(ends), len(values)
    along = np.linspace(-1, 1, num_seeds) if num_seeds > 1 else np.zeros(1)
    final, average = (
        np.array([[np.add.outer([0.0, -0.05], v + 0.004 * along) for v in own[k]] for k in kinds])
        for own in (ends, speeds)
    )
    chance = "seeds and examples" if num_seeds > 1 else "examples"
    gain = (
        final[0, -1, 0].mean() - final[0, :, 0].mean(-1)
        if axis == "init_step"
        else (final[0, :, 0] - final[-1, :, 0]).mean(-1)
    )
    speed = (
        average[0, -1, 0].mean() - average[0, :, 0].mean(-1)
        if axis == "init_step"
        else (average[0, :, 0] - average[-1, :, 0]).mean(-1)
    )
    results = {"values": list(values), "kinds": kinds, "final": final, "average": average}
    results |= {"rates": np.tile([0.01, 0.1], (len(kinds), 1)), "chosen_on": "valid"}
    results |= {
        "chosen": np.zeros((len(kinds), size), int),
        "num_examples": np.full(size, NUM_TEST),
    }
    results |= {"num_seeds": np.full((len(kinds), size), num_seeds)}
    results |= {"train_size": np.full(size, 1_600), "num_classes": np.full(size, 10)}
    spread = half if num_seeds > 1 else np.nan
    for name, own in (("final", final), ("average", average)):
        middle = own[:, :, 0].mean(-1)
        results |= {f"{name}_mean": middle, f"{name}_low": middle - spread}
        results |= {f"{name}_high": middle + spread}
    for name, own, width in (("difference", gain, half), ("speed", speed, spread)):
        results |= {name: own, f"{name}_low": own - width, f"{name}_high": own + width}
        p = np.clip(np.exp(-6 * np.abs(own) / half), 1e-9, 1) + 0 * own
        results |= {f"{name}_p": p, f"{name}_p_holm": np.minimum(1, size * p)}
    chances = np.full(size, chance, "<U20")
    if axis == "init_step":
        for name in [n for n in results if n.startswith(("difference", "speed"))]:
            results[name] = np.where(np.arange(size) == size - 1, np.nan, results[name])
        chances[-1] = ""
        worse = np.flatnonzero(~(results["difference_low"][:-1] <= 0))
        first = worse[-1] + 1 if worse.size else 0
        results["earliest"] = int(values[first]) if first < size - 1 else -1
    results |= {"chance": chances, **more}
    inputs = {"axis": axis, "target": "synthetic digits", "split": "test"}
    options = {"confidence": 0.95, "selected_on": "valid"}
    return record_of("sweep", inputs=inputs, options=options, results=results)


def starts(*, num_seeds=3, ends=None, speeds=None, steps=STEPS, **more):
    """P-T gets better with the start up to a plateau, its speed for longer."""
    way = np.log2(1 + np.array(steps)) / np.log2(1 + steps[-1])
    ends = 0.915 + 0.05 * np.minimum(1, 1.5 * way) if ends is None else ends
    speeds = 0.7 + 0.25 * way if speeds is None else speeds
    values, kinds = [str(s) for s in steps], ("P-T",)
    given = ({kind: np.asarray(own) for kind in kinds} for own in (ends, speeds))
    return sweep("init_step", values, *given, num_seeds=num_seeds, **more)


def checkpoints(verdicts=("no", "no", "no", "no", "open", "yes", "yes", "yes"), steps=STEPS):
    barrier = np.array([{"no": 0.4, "open": 0.02, "yes": 0.0}[v] for v in verdicts])
    barrier[:2] /= 4
    results = {"step": steps, "accuracy": 0.1 + 0.85 * np.linspace(0, 1, len(steps)) ** 0.5}
    results |= {"loss": 2.3 - 2 * np.linspace(0, 1, len(steps)), "num_examples": SOURCE}
    results |= {"barrier": barrier, "barrier_low": np.maximum(barrier - 0.01, 0)}
    results |= {"barrier_high": barrier + 0.01, "verdict": verdicts, "tolerance": 0.02}
    options = {"tolerance": 0.02, "num_alphas": 11, "confidence": 0.95}
    inputs = {"run": "P", "split": "test"}
    return record_of("checkpoints", inputs=inputs, options=options, results=results)


def transferability():
    names = ("LogME", "LEEP", "NCE", "H-score")
    way = np.linspace(0, 1, len(STEPS))
    measured = 0.915 + 0.05 * np.minimum(1, 1.5 * way)
    score = np.stack([way - 1.5, 2 * way**2 - 3, -(way**3), 5 * np.cos(9 * way)])
    results = {"values": [str(s) for s in STEPS], "measured": measured, "scores": names}
    results |= {"score": score, "weighted_tau": [0.97, 0.95, -0.92, 0.1]}
    results |= {"p_weighted_tau": [2e-4, 0.001, 0.002, 0.6], "kendall": [0.9, 0.9, -0.9, 0.1]}
    results |= {"p_kendall": [0.001, 0.001, 0.001, 0.7], "p_holm": [8e-4, 0.003, 0.004, 0.6]}
    results |= {"num_examples": 400}
    inputs = {"axis": "init_step", "target": "synthetic digits", "split": "train"}
    options = {"layer": "pooled"}
    return record_of("transferability", inputs=inputs, options=options, results=results)


def amount(**more):
    """What P brings is the less, the more images there are."""
    way = np.log2(np.array(SIZES) / SIZES[0]) / np.log2(SIZES[-1] / SIZES[0])
    ends = {"P-T": 0.88 + 0.085 * way, "RI-T": 0.6 + 0.315 * way}
    speeds = {"P-T": 0.97 - 0.02 * way, "RI-T": 0.8 + 0.05 * way}
    sizes = [str(n) for n in SIZES]
    return sweep("train_size", sizes, ends, speeds, train_size=np.array(SIZES), **more)


def targets(gains=(0.14, 0.12, 0.11, 0.05, 0.03), **more):
    """What P brings is the less, the farther the target is."""
    ends = {"P-T": np.array([0.96, 0.94, 0.9, 0.9, 0.85])[: len(gains)]}
    ends["RI-T"] = ends["P-T"] - np.array(gains)
    speeds = {kind: own + 0.02 for kind, own in ends.items()}
    return sweep("target", list(TARGETS)[: len(gains)], ends, speeds, **more)


def domains(distances=TARGETS):
    results = {"targets": list(distances), "distance": list(distances.values()), "floor": 1.2}
    results |= {"num_examples": np.full(len(distances), 1_000), "source": "source digits"}
    results |= {"num_features": 64}
    options = {"layer": "pooled"}
    return record_of("domains", inputs={"run": "P"}, options=options, results=results)


def starts_records():
    """What a study records of P's checkpoints and of other targets."""
    return [starts(), checkpoints(), transferability(), amount(), targets(), domains()]
