"""Synthetic records of runs and their copies. Formulas; nothing was measured."""

import numpy as np

from tests.report.made import record_of

STEPS = [0, 10, 100]
HEIGHTS = {"P-T": (0.0, 0.0, 0.0), "RI-T": (0.6, 0.3, 0.0)}


def instability(kind, replicate=1, heights=None, half=0.005):
    accuracy = np.array(HEIGHTS[kind] if heights is None else heights) + 0.001 * replicate
    results = {"step": STEPS, "num_examples": 500, "distance": 10 * accuracy + 1}
    results["similarity"] = 1 - accuracy
    for prefix, share in (("", 1.0), ("aligned_", 0.5)):
        for name, scale in (("accuracy_barrier", 1.0), ("barrier", 2.0)):
            value = share * scale * accuracy
            results[prefix + name] = value
            results[f"{prefix}{name}_low"] = value - half
            results[f"{prefix}{name}_high"] = value + half
    inputs = {"run": f"{kind} {replicate}", "kind": kind, "replicate": replicate}
    return record_of("instability", inputs=inputs, results=results, options={"confidence": 0.95})


def every(num_runs=3):
    return [instability(kind, i) for kind in HEIGHTS for i in range(1, num_runs + 1)]
