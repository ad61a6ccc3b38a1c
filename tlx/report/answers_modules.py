"""The answer about modules: which of them carry what was learned, and how they moved."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from tlx.report import measures_modules
from tlx.report.measures import Records
from tlx.report.measures_modules import Critical, Rewound, rounded, says, worded
from tlx.report.numbers import UNKNOWN, count, significant
from tlx.report.tables_modules import cosine_text, points
from tlx.report.verdicts import (
    AGREES,
    DIFFERS,
    LITTLE,
    NOTHING,
    P_T,
    RI_T,
    Answer,
    Check,
    above,
    order,
    together,
)

MOST = 3
"""Modules that a sentence names at the most."""

_PATHS = {"direct": "straight back", "optimisation": "through the checkpoints"}


def modules(records: Records) -> Answer:
    """Which modules carry it?"""
    lost = measures_modules.rewound(records)
    critical = measures_modules.critical(records)
    parts, checks = [], []
    p_t, ri_t = lost.get("P-T"), lost.get("RI-T")
    if p_t and ri_t and p_t.mean.known and ri_t.mean.known:
        checks += _set_back(p_t, ri_t)
        parts += [_lead(p_t, ri_t, checks[0].verdict), _named(p_t, ri_t)]
        parts += _without(p_t)
    parts += [*_in_sum(records), *_bounds(critical)]
    checks += _first_module(critical)
    parts += _moved(records)
    return Answer(" ".join(parts), parts[0], tuple(checks)) if parts else NOTHING


def _set_back(p_t: Rewound, ri_t: Rewound) -> list[Check]:
    """The shape of the paper's figure 5."""
    *others, last = p_t.lost.values()
    first = [next(iter(f.lost.values()), UNKNOWN) for f in (ri_t, p_t)]
    head = worded(list(p_t.lost)[-1])
    found = [
        Check("a module set back costs P-T less than RI-T, on average", order(ri_t.mean, p_t.mean)),
        Check(f"the last module ({head}) costs P-T most", together(order(last, e) for e in others)),
        Check("the first module costs RI-T more than P-T", order(*first)),
    ]
    return [found[0], *(check for check in found[1:] if check.verdict)]


def _lead(p_t: Rewound, ri_t: Rewound, verdict: str) -> str:
    lead = {
        AGREES: "Single modules of P-T carry less than those of RI-T",
        DIFFERS: "Unlike in the paper, single modules of P-T carry no less than those of RI-T",
    }.get(verdict, "Single modules of P-T carry not measurably less than those of RI-T")
    step = f"step {p_t.step[0]:,}" if p_t.step[0] == ri_t.step[0] else "the first checkpoint"
    return (
        f"{lead}: set back to {step}, one costs {points(p_t.mean)} points of test accuracy on "
        f"average, against {points(ri_t.mean)}."
    )


def _named(p_t: Rewound, ri_t: Rewound) -> str:
    parts = [f"{kind} {_most(own)}" for kind, own in (("P-T", p_t), ("RI-T", ri_t))]
    return f"{parts[0]}; {parts[1]}."


def _most(found: Rewound) -> str:
    """Names the modules that are missed, those first of which most was measured to be lost."""
    known = [(name, lost) for name, lost in found.lost.items() if lost.known]
    ranked = sorted(known, key=lambda item: -item[1].value)
    missed = [(n, e) for n, e in ranked if above(e, LITTLE) == "yes"]
    if not missed:
        sure = all(above(e, LITTLE) == "no" for _, e in known)
        if sure:
            return "loses no more than a point with any module"
        return "loses measurably more than a point with no module"
    units = [" points", *[""] * len(missed)]
    named = [f"{worded(n)} ({points(e)}{u})" for (n, e), u in zip(missed, units, strict=False)]
    return f"loses measurably more than a point with {_some(named)}"


def _some(names: list[str]) -> str:
    """The first MOST names, and how many others there are."""
    more = len(names) - MOST
    return _listed([*names[:MOST], *([count(more, "other")] if more > 0 else [])])


def _listed(names: list[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if names[1:] else names)


def _without(found: Rewound) -> Iterator[str]:
    """Which modules of P-T can stay where they started."""
    verdicts = {n: above(e, LITTLE) for n, e in found.lost.items() if e.known}
    without, undecided = (
        [worded(n) for n, own in verdicts.items() if own == v] for v in ("no", "open")
    )
    if not (without or undecided):
        yield "There is no module whose training P-T can do without."
    elif len(without) == len(found.lost):
        yield "P-T can do without the training of any one module."
    elif without:
        yield f"P-T can do without the training of {_listed(without)}, one at a time."
    if undecided:
        named = _some(undecided)
        yield f"Whether P-T can do without the training of {named} is too close to call."


def _in_sum(records: Records) -> Iterator[str]:
    """The network's criticality, P-T and RI-T, on each path."""
    said, verdicts = [], set()
    for path, words in _PATHS.items():
        found = measures_modules.critical(records, path)
        if len(found) < 2 or any(math.isnan(own.total) for own in found.values()):
            continue
        p_t, ri_t = (found[kind] for kind in measures_modules.TRAINED)
        said.append(f"{rounded(ri_t.total)} for RI-T and {rounded(p_t.total)} for P-T {words}")
        verdicts.add(above(ri_t.over_runs["total"], p_t.over_runs["total"]))
    if said:
        verdict = verdicts.pop() if len(verdicts) == 1 else "open"
        higher = {"yes": "measurably higher for RI-T: ", "no": "measurably higher for P-T: "}
        how = higher.get(verdict, "")
        yield f"In sum over the modules the criticality is {how}{', '.join(said)}."


def _bounds(found: Mapping[str, Critical]) -> Iterator[str]:
    """The PAC-Bayes bounds on the direct path, or that they say nothing."""
    if len(found) < 2:
        return
    useful = {kind: own.bound for kind, own in found.items() if says(own.bound)}
    silent = [kind for kind in found if kind not in useful]
    parts = [f"is {bound:.2f} for {kind}" for kind, bound in useful.items()]
    if silent:
        parts.append(f"says nothing about {_listed(silent)}")
    if parts:
        yield f"The PAC-Bayes bound on the expected error {' and '.join(parts)}."


def _first_module(found: Mapping[str, Critical]) -> list[Check]:
    """The shape of the paper's figure 6, of the first module on the direct path."""
    if len(found) < 2:
        return []
    p_t, ri_t = (found[kind].over_runs["first"] for kind in measures_modules.TRAINED)
    check = Check("the first module is less critical in P-T than in RI-T", order(ri_t, p_t))
    return [check] if check.verdict else []


def _moved(records: Records) -> Iterator[str]:
    """How far runs went, and whether two of a kind went the same way."""
    found, alike = measures_modules.moved(records), measures_modules.alike(records)
    parts = []
    for kind, pair in (("P-T", P_T), ("RI-T", RI_T)):
        own, both = found.get(kind), alike.get(pair)
        if own and math.isfinite(own.total):
            parts.append(f"{kind} moved {significant(own.total)} in l2")
            if both and math.isfinite(both.total):
                parts[-1] += f" (cosine between two runs {cosine_text(both.total)})"
    if len(parts) == 2:
        yield f"{'; '.join(parts)}."
