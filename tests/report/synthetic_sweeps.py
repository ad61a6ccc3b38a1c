"""Synthetic records of runs taken together, and by shuffle. Formulas; nothing was measured."""

import numpy as np

from tests.report.made import changed, record_of

NUM_TEST, NUM_TRAIN, CLASSES = 1_397, 400, 10
KINDS = ("P-T", "RI-T")
FINAL = {"P-T": 0.965, "RI-T": 0.915}
SHUFFLES = ("pixel", "block:1", "block:2", "block:4", "block:8", "block:16", "none")
PAPERS = (
    "pixel", *(f"channel_block:{b}" for b in (1, 2, 4, 7, 8, 14)),
    *(f"block:{b}" for b in (1, 2, 4, 7, 8, 14, 16, 28, 32, 56, 112)), "none",
)  # fmt: skip
STUDENT = {1: np.nan, 2: 12.706, 3: 4.303, 5: 2.776}
OPTIONS = {"confidence": 0.95, "selected_on": "valid"}


def with_arm(record, share=0.75, arm="S-T"):
    """The sweep with another arm, which has this share of P-T's advantage lost."""
    given = record.results
    p_t, ri_t = (np.array([getattr(given, f"final{e}")[k] for e in ("_mean", "_low", "_high")])
                 for k in (0, 1))  # fmt: skip
    s_t = p_t - share * (p_t - ri_t)
    results = {
        f"final{end}": [*getattr(given, f"final{end}"), values]
        for end, values in zip(("_mean", "_low", "_high"), s_t, strict=True)
    }
    for name in ("average_mean", "average_low", "average_high", "num_seeds", "chosen", "rates"):
        results[name] = [*getattr(given, name), getattr(given, name)[0]]
    for name in ("final", "average", "area", "best", "selected", "steps_to"):
        results[name] = [*getattr(given, name), getattr(given, name)[0]]
    results |= {"kinds": ["P-T", "RI-T", arm], "contrasts": [f"P-T − {arm}", f"{arm} − RI-T"]}
    of_contrasts = {"contrast": "difference", "contrast_drop": "drop", "contrast_speed": "speed"}
    for name, of in of_contrasts.items():
        for end in ("", "_low", "_high"):
            values = getattr(given, f"{of}{end}")
            other = {"": "", "_low": "_high", "_high": "_low"}[end]
            turned = getattr(given, f"{of}{other}")
            results[f"{name}{end}"] = [
                s * (values if s > 0 else turned) for s in (share, 1 - share)
            ]
    return changed(record, **results)


def over_seeds(values):
    """Mean over the last axis and the ends of its t interval, by name."""
    n = values.shape[-1]
    spread = values.std(axis=-1, ddof=1) / np.sqrt(n) if n > 1 else values.mean(axis=-1)
    half = STUDENT[n] * spread
    middle = values.mean(axis=-1)
    return {"_mean": middle, "_low": middle - half, "_high": middle + half}


def learning(*, rates=(0.05, 0.1), num_seeds=3, swap=False, num_valid=100):
    rng = np.random.default_rng(0)
    step = np.arange(0, 601, 20)
    kinds = [kind for kind in KINDS for _ in rates]
    every = [rate for _ in KINDS for rate in rates]
    final = [
        FINAL[KINDS[(KINDS.index(kind) + swap) % 2]] - 0.06 * (rate != rates[0])
        for kind, rate in zip(kinds, every, strict=True)
    ]
    tau = np.array([40 if kind == "P-T" else 110 for kind in kinds])[:, None, None]
    noise = rng.normal(0, 0.004, (len(kinds), num_seeds, step.size))
    rise = 1 - np.exp(-step / tau)
    test = 0.1 + (np.array(final)[:, None, None] - 0.1) * rise + noise
    train = np.minimum(test + 0.03 * rise, 1.0)
    groups = {"test": test, "train": train, "loss": -2.2 * np.log(0.05 + 0.95 * test)}
    results = {"step": step, "kinds": kinds, "rates": every, "seeds": [num_seeds] * len(kinds)}
    for name, values in groups.items():
        found = over_seeds(np.moveaxis(values, 1, -1))
        results |= {f"{name}{end}": value for end, value in found.items()}
    results |= {f"final{end}": value for end, value in over_seeds(test[..., -1]).items()}
    selected = test[..., -4] if num_valid else np.full(test.shape[:2], np.nan)
    at = step[-4] if num_valid else np.nan
    results |= {"best": test.max(axis=-1), "best_step": step[test.argmax(axis=-1)]}
    results |= {"selected": selected, "selected_step": np.full(selected.shape, at)}
    results |= {"optimism": (test.max(axis=-1) - selected).mean(axis=-1)}
    results |= {"num_examples": NUM_TEST, "num_valid": num_valid}
    inputs = {"target": "synthetic digits", "split": "test"}
    return record_of("mean_learning_curves", inputs=inputs, results=results, options=OPTIONS)


def shuffled(values=SHUFFLES, *, rates=(0.05, 0.1), num_seeds=3, swap=False, half=0.02):
    """The sweep of axis "shuffle": the finer, the lower, and P-T above RI-T by less and less."""
    rng = np.random.default_rng(1)
    share = np.linspace(0.35, 1.0, len(values))
    gap = np.linspace(0.5, 1.0, len(values))
    tops = FINAL["P-T"] * share, (FINAL["P-T"] - 0.3 * gap) * share
    means = np.stack(tops[::-1] if swap else tops)
    shape = (2, len(values), len(rates), num_seeds)
    worse = 0.04 * np.arange(len(rates))[:, None]
    final = means[:, :, None, None] - worse + rng.normal(0, 0.004, shape)
    fast = means[:, :, None, None] * 0.2 + 0.7 - worse + rng.normal(0, 0.003, shape)
    results = {"values": values, "plain": "none", "kinds": KINDS, "rates": [rates, rates]}
    results |= {"final": final, "average": fast, "area": 0.9 * final, "best": final + 0.004}
    results |= {"selected": final - 0.002, "steps_to": np.full(shape, 200.0)}
    results |= {"chosen": np.zeros((2, len(values)), np.int32)}
    results |= {"chosen_on": "valid" if len(rates) > 1 else ""}
    results |= {f"final{end}": v for end, v in over_seeds(final[:, :, 0]).items()}
    results |= {f"average{end}": v for end, v in over_seeds(fast[:, :, 0]).items()}
    p_t, ri_t = final[:, :, 0].mean(axis=-1)
    gaps = {"difference": p_t - ri_t, "speed": np.subtract(*fast[:, :, 0].mean(axis=-1))}
    for name, value in gaps.items():
        wide = half if name == "difference" else 0.004 if num_seeds > 1 else np.nan
        results |= {name: value, f"{name}_low": value - wide, f"{name}_high": value + wide}
        results |= {f"{name}_p": np.full(len(values), 0.0004)}
        results |= {f"{name}_p_holm": np.full(len(values), 0.0028)}
    drop = 100 * (p_t - ri_t) / p_t
    results |= {"drop": drop, "drop_low": drop - 100 * half, "drop_high": drop + 100 * half}
    chance = "seeds and examples" if num_seeds > 1 else "examples"
    results |= {"chance": [chance if np.isfinite(half) else ""] * len(values)}
    results |= {"num_seeds": np.full((2, len(values)), num_seeds), "reach": ri_t}
    for name, n in (
        ("num_examples", NUM_TEST),
        ("train_size", NUM_TRAIN),
        ("num_classes", CLASSES),
    ):
        results |= {name: np.full(len(values), n)}
    from_plain = (p_t - ri_t)[-1] - (p_t - ri_t)
    from_plain[-1] = np.nan
    wide = 1.5 * half if num_seeds > 1 else np.nan
    results |= {"from_plain": from_plain, "from_plain_low": from_plain - wide}
    results |= {"from_plain_high": from_plain + wide}
    inputs = {"axis": "shuffle", "target": "synthetic digits", "split": "test"}
    return record_of("sweep", inputs=inputs, results=results, options=OPTIONS)
