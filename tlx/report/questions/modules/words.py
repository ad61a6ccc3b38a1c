"""Which modules carry it: the answer and its captions."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from tlx.report.question import NOTHING, Answer, Check, Finding, KeyNumber, of_two
from tlx.report.questions.modules import figure, numbers
from tlx.report.questions.modules.figure import LABELLED
from tlx.report.questions.modules.numbers import (
    PATHS,
    Critical,
    Rewound,
    cosine_text,
    rounded,
    says,
    worded,
)
from tlx.report.read.selection import Records, statistics_rule
from tlx.report.words import kinds
from tlx.report.words.kinds import pair, pairs_counted
from tlx.report.words.numbers import UNKNOWN, count, text
from tlx.report.words.sentences import listed
from tlx.report.words.verdicts import (
    AGREES,
    DIFFERS,
    LEAST_Z,
    LITTLE,
    P_T,
    RI_T,
    above,
    order,
    together,
)

MOST = 3
"""Modules that a sentence names at the most."""

_PATHS = {
    "direct": "straight back",
    "optimisation": "through the checkpoints",
    "best": "straight back from the best checkpoint",
}


def answer(records: Records) -> Answer:
    """Which modules carry it?"""
    lost = numbers.rewound(records)
    critical = numbers.critical(records)
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
        Check("a module rewound costs P-T less than RI-T, on average", order(ri_t.mean, p_t.mean)),
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
        f"{lead}: rewound to {step}, one costs {text(p_t.mean, 100.0)} points of test accuracy on "
        f"average, against {text(ri_t.mean, 100.0)}."
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
    named = [f"{worded(n)} ({text(e, 100.0)}{u})" for (n, e), u in zip(missed, units, strict=False)]
    return f"loses measurably more than a point with {_some(named)}"


def _some(names: list[str]) -> str:
    """The first MOST names, and how many others there are."""
    more = len(names) - MOST
    return listed([*names[:MOST], *([count(more, "other")] if more > 0 else [])])


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
        yield f"P-T can do without the training of {listed(without)}, one at a time."
    if undecided:
        named = _some(undecided)
        yield f"Whether P-T can do without the training of {named} is too close to call."


def _in_sum(records: Records) -> Iterator[str]:
    """The network's criticality, P-T and RI-T, on each path."""
    said, verdicts = [], set()
    for path, words in _PATHS.items():
        found = numbers.critical(records, path)
        if not _both(found) or any(math.isnan(own.total) for own in found.values()):
            continue
        p_t, ri_t = (found[kind] for kind in kinds.TRAINED)
        said.append(f"{rounded(ri_t.total)} for RI-T and {rounded(p_t.total)} for P-T {words}")
        verdicts.add(above(ri_t.over_runs["total"], p_t.over_runs["total"]))
    if said:
        verdict = verdicts.pop() if len(verdicts) == 1 else "open"
        higher = {"yes": "measurably higher for RI-T: ", "no": "measurably higher for P-T: "}
        how = higher.get(verdict, "")
        yield f"In sum over the modules the criticality is {how}{', '.join(said)}."


def _bounds(found: Mapping[str, Critical]) -> Iterator[str]:
    """The PAC-Bayes bounds on the direct path, or that they say nothing."""
    if not _both(found):
        return
    useful = {kind: own.bound for kind, own in found.items() if says(own.bound)}
    silent = [kind for kind in found if kind not in useful]
    parts = [f"is {bound:.2f} for {kind}" for kind, bound in useful.items()]
    if silent:
        parts.append(f"says nothing about {listed(silent)}")
    if parts:
        yield f"The PAC-Bayes bound on the expected error {' and '.join(parts)}."


def _first_module(found: Mapping[str, Critical]) -> list[Check]:
    """The shape of the paper's figure 6, of the first module on the direct path."""
    if not _both(found):
        return []
    p_t, ri_t = (found[kind].over_runs["first"] for kind in kinds.TRAINED)
    check = Check("the first module is less critical in P-T than in RI-T", order(ri_t, p_t))
    return [check] if check.verdict else []


def _both(found: Mapping[str, Any]) -> bool:
    return all(kind in found for kind in kinds.TRAINED)


def _moved(records: Records) -> Iterator[str]:
    """How far runs went, and whether two of a kind went the same way."""
    found, alike = numbers.moved(records), numbers.alike(records)
    parts = []
    for kind, two in (("P-T", P_T), ("RI-T", RI_T)):
        own, both = found.get(kind), alike.get(two)
        if own and own.total.known:
            parts.append(f"{kind} moved {text(own.total)} in l2")
            if both and both.total.known:
                parts[-1] += f" (cosine between two runs {cosine_text(both.total)})"
    if len(parts) == 2:
        yield f"{'; '.join(parts)}."


def rewinding_caption(records: Records) -> str:
    """The caption of what is lost where a module is rewound."""
    found = numbers.rewound(records)
    n = max((f.num_images for f in found.values()), default=0)
    starts = " or ".join(f"{s:,}" for s in sorted({int(f.step[0]) for f in found.values()}))
    below = ""
    if any(len(f.step) > 1 for f in found.values()):
        most = max(len(f.names) for f in found.values())
        named = f"; named are the {LABELLED} with the highest lines" if most > LABELLED else ""
        below = (
            " Below, rewound to each checkpoint that was kept, from the last to the first (of the "
            f"first run of a kind; pale is the first module, dark the last{named})."
        )
    return (
        f"What is lost where one module is rewound to its weights at step {starts}, the others "
        "as trained, from input to output; of P-T these are the pretrained ones and a new head. "
        f"{_runs(found)}, n = {n:,} test images; whiskers are at most one standard error.{below}"
        + statistics_rule(records, "rewinding")
    )


def criticality_caption(records: Records) -> str:
    """The caption of the maps of criticality."""
    by_path = {path: numbers.critical(records, path) for path in PATHS}
    every = {(k, path): own for path, found in by_path.items() for k, own in found.items()}
    runs = _runs(next((found for found in by_path.values() if found), {}))
    first = ", the first of each drawn" if "means" in runs else ""
    names = {n for own in every.values() for n in own.names}
    chosen = len(figure.drawn(every))
    some = (
        f" Of {len(names)} modules the first and the {chosen - 1} with the highest values are "
        "drawn."
        if chosen < len(names)
        else ""
    )
    n = max((own.num_images for own in every.values()), default=0)
    draws = max((own.num_draws for own in every.values()), default=0)
    return (
        "0-1 error on the training images where one module is at a place between its start (left) "
        "and its trained weights (right), with Gaussian noise of standard deviation σ on each of "
        "its weights, the others as trained. Columns are drawn equally wide: on the straight way "
        f"they are at equal distances, on the other each is a checkpoint{_steps(every)}. Outlined "
        f"is where the error is at most the trained one{_tolerance(every)}; without an outline it "
        "is so everywhere, or, without a dot, nowhere. The dot is where (distance / σ)² is least, "
        f"which is the criticality μ. {runs}{first}; n = {n:,} "
        f"images, {count(draws, 'draw')} of the noise.{some}"
        + statistics_rule(records, "criticality")
    )


def _steps(every: Mapping[Any, Critical]) -> str:
    found = {tuple(own.step) for (_, path), own in every.items() if path != "direct" and own.step}
    each = [f"{', '.join(f'{s:,}' for s in steps)}" for steps in sorted(found)]
    return f" (steps {'; '.join(each)})" if each and max(map(len, found)) <= 12 else ""


def _tolerance(every: Mapping[Any, Critical]) -> str:
    found = {own.tolerance for own in every.values() if np.isfinite(own.tolerance)}
    points = " or ".join(f"{100 * t:g}" for t in sorted(found))
    return f" and {points} points" if points else " and a tolerance"


def movement_caption(records: Records) -> str:
    """The caption of how far the modules moved, and whether two runs moved alike."""
    found, alike = numbers.moved(records), numbers.alike(records)
    parts = []
    if found:
        parts.append(
            "The distance of each module's trained weights from its start (full), and the length "
            f"of the way there, from checkpoint to checkpoint (pale). {_runs(found)}."
        )
    if alike:
        pairs = pairs_counted({k: own.num_pairs for k, own in alike.items()})
        single = list(
            dict.fromkeys(
                worded(n)
                for own in alike.values()
                for n, is_single in zip(own.names, own.single, strict=True)
                if is_single
            )
        )
        parts.append(
            "The cosine of the movements of two runs: 1 is the same direction in the space of "
            "the module's weights; dotted, what two random directions have, √(1/k) of k weights "
            f"({pairs})."
        )
        if single:
            parts.append(f"Left out, of one weight only: {', '.join(single)}.")
    return " ".join(parts)


def _runs(found: Mapping[str, Any]) -> str:
    runs = " and ".join(count(own.num_runs, f"{kind} run") for kind, own in found.items())
    several = any(own.num_runs > 1 for own in found.values())
    return (runs[:1].upper() + runs[1:]) + (", means" if several else "")


def key_numbers(records: Records) -> list[KeyNumber]:
    """How critical the modules of P-T and of RI-T are, in sum."""
    found = numbers.critical(records)
    cells = of_two({pair(kind, kind): rounded(own.total) for kind, own in found.items()})
    return [KeyNumber("Criticality, sum", cells, "")]


HOW = (
    "One module at a time is rewound to its weights at a checkpoint of the same run, the "
    "others stay as trained (Zhang et al. 2019), and the network is evaluated on all test "
    "images. Both networks see the same images, but it is not recorded on which they differ: "
    "± is the largest standard error of the difference that their accuracies allow. Where it "
    "was recorded, brackets are intervals over test images. P-T is said to do without a "
    "module's training where the whole interval (or two standard errors to both sides) of "
    "what it loses is at most a point, and to miss it where all of that is more. Block s.b is "
    "block b of stage s.\n\n"
    "The criticality μ of a module is the least (distance / σ)² over a grid of places θ(α) on "
    "a path from its start to its trained weights and of noise N(0, σ²) on each weight, σ "
    "above 0, at which the mean 0-1 error on the training images stays within the threshold "
    "(Chatterji et al. 2020, definition 3.1); the distance is ‖θ(α) − θ(0)‖. It is 0 where "
    "the module can stay at its start, ∞ where no point of the grid is within the threshold, "
    "and a finer grid can only lower it; a network's is the sum over its modules. One kind is "
    "said to have the higher one where the t intervals over several runs do not overlap. The "
    "straight path is the paper's direct one; the other, its optimisation path, goes through "
    "the checkpoints. The bound on the expected error of the network with that noise in all "
    "its modules holds with the start as the prior's mean; of "
    f"{numbers.SAYS_NOTHING} and more it is said to say nothing, as where a "
    "criticality is ∞ or the model has batch statistics.\n\n"
    "A module's movement is the difference of its trained weights from its start, its path "
    "the sum of the differences from checkpoint to checkpoint. z is the cosine of two "
    "movements over its standard deviation for random directions, √(1/k) with k weights; "
    f"“‡” marks z below {LEAST_Z:g}. Gradients fill few directions, so that runs that have "
    "nothing else in common may have a large z."
)

FINDING = Finding(
    "Figures 5 and 6",
    "One module at a time rewound to checkpoint 0 on CheXpert, test AUC, read off the figure "
    "to about ±.005: P-T, .734 as trained, falls to .693 with the fully connected layer "
    "rewound and stays at .710 or above with any other; RI-T falls from .704 to .507 with conv1 "
    "(learning rate .02), and from .702 to .543 with the first block of stage 3 and .562 with "
    "conv1 (.1). The only difference to the supervised case, its text says, is that the fully "
    "connected layer becomes critical for P-T, which is expected. In noise and on the way to "
    "its start, conv1 of P-T stays in a valley of even width; that of RI-T leaves it before "
    "the start, on both paths.",
)
