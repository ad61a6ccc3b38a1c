"""From which step on two copies share a basin: the answer, its caption and its table."""

from collections.abc import Mapping

from tlx.report.question import NOTHING, Answer, Check, Finding
from tlx.report.questions.instability import numbers
from tlx.report.questions.instability.numbers import Parting
from tlx.report.read import over_runs
from tlx.report.read.selection import Records
from tlx.report.words import verdicts
from tlx.report.words.numbers import count, text
from tlx.report.words.sentences import capital
from tlx.report.words.table import Table
from tlx.report.words.verdicts import DIFFERS, Verdict, decided


def answer(records: Records) -> Answer:
    """From which step on do two copies share a basin?"""
    found = numbers.partings(records)
    if not found:
        return NOTHING
    claims = [_said(kind, parting) for kind, parting in found.items()]
    more = " ".join(_aligned(kind, parting) for kind, parting in found.items())
    checks = _from_one_start(found)
    lead = "unlike in the paper, " if any(c.verdict == DIFFERS for c in checks) else ""
    short = capital(lead + "; ".join(claims)) + "."
    return Answer(" ".join(f"{short} {more}".split()), short, tuple(checks))


def _from_one_start(found: Mapping[str, Parting]) -> list[Check]:
    """What the paper has of two runs from the same weights, which is step 0."""
    claims: dict[str, tuple[str, Verdict]] = {
        "P-T": ("no barrier between two P-T from the same weights", "yes"),
        "RI-T": ("a barrier between two RI-T from the same random weights", "no"),
    }
    return [
        Check(claim, decided(found[kind].shared(0), expected))
        for kind, (claim, expected) in claims.items()
        if kind in found and found[kind].step[0] == 0 and not found[kind].noise
    ]


def _said(kind: str, found: Parting) -> str:
    first = found.first()
    if first is None:
        last = found.step[-1]
        how = {"no": "do not share a basin", "open": "may or may not share a basin"}
        return (
            f"two copies of {kind} {how[found.shared(len(found.step) - 1)]} even where they part "
            f"at step {last:,}"
        )
    if first == found.step[0]:
        where = "from the start" if first == 0 else f"at step {first:,} already"
        return f"two copies of {kind} share a basin {where}"
    at = found.step.index(first) - 1
    before = f"step {found.step[at]:,}"
    how = {"no": f"but not from {before}", "open": f"and from {before} it is open"}
    return f"two copies of {kind} share a basin from step {first:,} on, {how[found.shared(at)]}"


def _aligned(kind: str, found: Parting) -> str:
    """What is left of the barrier at the first step where there is one, with units in one order."""
    at = next((i for i in range(len(found.step)) if found.shared(i) == "no"), None)
    if at is None:
        return ""
    plain, aligned = (found.mean[f"{prefix}accuracy_barrier"][at] for prefix in ("", "aligned_"))
    return (
        f"Copies of {kind} that part at step {found.step[at]:,} are {text(plain, 100.0)} points of "
        f"accuracy apart on the line, {text(aligned, 100.0)} with their units in one order."
    )


def caption(records: Records) -> str:
    """The caption of the panels."""
    found = numbers.partings(records)
    runs = " and ".join(count(own.num_runs, f"{kind} run") for kind, own in found.items())
    n = max((own.num_images for own in found.values()), default=0)
    noise = max((own.noise for own in found.values()), default=0.0)
    parted = (
        f"have noise of {100 * noise:g}% of each tensor's root mean square added there; they see "
        "the same data, "
        if noise
        else "see another order of the data from then on; "
    )
    bands = (
        " Thin lines are runs, thick ones their mean, bands 95% intervals over runs."
        if any(own.num_runs >= over_runs.ENOUGH for own in found.values())
        else " Bands are 95% intervals over test images."
    )
    return (
        f"{capital(runs)}, each with copies that are the same until a step and {parted}both are "
        f"trained to the end and compared on n = {n:,} test images.{bands} Dashed: with the copy's "
        "hidden units in the order of the run's."
    )


def table(records: Records) -> Table | None:
    """A row a kind and step; None: no data."""
    columns = (
        "", "parted at step", "one basin?", "accuracy barrier, points", "loss barrier, nats",
        "aligned, points", "l2", "CKA",
    )  # fmt: skip
    rows = tuple(
        (
            kind,
            f"{step:,}",
            found.shared(i),
            text(found.mean["accuracy_barrier"][i], 100.0),
            text(found.mean["barrier"][i]),
            text(found.mean["aligned_accuracy_barrier"][i], 100.0),
            text(found.mean["distance"][i]),
            text(found.mean["similarity"][i], most=3),
        )
        for kind, found in numbers.partings(records).items()
        for i, step in enumerate(found.step)
    )
    return Table(columns, rows) if rows else None


HOW = (
    "A run is trained twice from one seed. From a step on the second, its copy, sees the data in "
    "the order of another seed, or in the same one after noise was added to its weights; before, "
    "both are the same to the bit. Both are trained to the end "
    "of their schedule, and compared as two runs are: barriers on the line between them, the l2 "
    "distance of their weights, and the mean over layers of the debiased CKA of a layer with "
    "itself. Copies are said to share a basin where the whole intervals of the accuracy barrier "
    f"and of the loss barrier are at most {100 * verdicts.ACCURACY_TOLERANCE:g} points and "
    f"{verdicts.LOSS_TOLERANCE:g} nats, not to share one where either interval is all above, and "
    "else it is left open. At step 0 two copies have the same start: of RI-T the same random "
    "weights, of P-T those of P (Frankle et al. 2020, arXiv 1912.05671).\n\n" + over_runs.HOW
)

FINDING = Finding(
    "Figure 4",
    "Not asked of single steps. Two RI-T have a barrier between them also where both start from "
    "the same random weights, which is step 0 here, a milder one; two P-T, which start from those "
    "of P, have none.",
)
