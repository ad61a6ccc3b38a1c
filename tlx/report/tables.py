"""The tables of the page, each also as text for a terminal."""

from __future__ import annotations

import math
import textwrap

from tlx.report import (
    answers,
    measures,
    measures_landscape,
    measures_pairs,
    measures_similarity,
    verdicts,
)
from tlx.report.answers_similarity import cka
from tlx.report.kinds import Pair, pair_name
from tlx.report.measures import Records, listed
from tlx.report.numbers import NO_DATA, UNKNOWN, percent, significant, text
from tlx.report.table import Table
from tlx.report.tables_depth import partial_transfer, probes, spectra
from tlx.report.tables_modules import modules, network_criticality
from tlx.report.tables_similarity import similarity, similarity_shuffled
from tlx.report.verdicts import P_T, RI_T

TITLES = {
    "curves": "Does pretraining help on the target?",
    "shuffle": "Is it features or low-level statistics?",
    "barrier": "Are two models joined by a straight line?",
    "landscape": "What does the loss landscape between them look like?",
    "similarity": "Do they compute the same features?",
    "depth": "What is in which layer, and how deep does it transfer?",
    "modules": "Which modules carry it?",
    "distances": "How far apart are they in parameter space?",
    "agreement": "Do they make the same mistakes?",
}

# For the headline's last column: does the paper's order hold here?
_VERDICTS = {
    verdicts.AGREES: "agrees",
    verdicts.DIFFERS: "differs",
    verdicts.OPEN: "too close",
    "": "",
}


def headline(records: Records) -> Table:
    """Returns the key numbers of a study: P-T against RI-T, and whether the paper's order holds.

    Args:
        records: a study's records, or the path of their folder.

    Returns:
        A row a quantity; "no data" where it has not been measured.
    """
    records = listed(records)
    found = measures.curves(records)
    final = [measures.final(found, kind) for kind in ("P-T", "RI-T")]
    speed = [measures.speed(found, kind) for kind in ("P-T", "RI-T")]
    barriers = measures_pairs.barriers(records)
    layers = measures_similarity.layers(records)
    distances = measures_pairs.distances(records)
    agreements = measures_pairs.agreements(records)
    verdict = {name: _VERDICTS[ask(records).verdict] for name, ask in answers.QUESTIONS.items()}
    learning = _VERDICTS[verdicts.order(*speed)]
    level, cka_level = (_level(records, name) for name in ("interpolation", "similarity"))
    dips = _two({k: text(b.accuracy, 100.0) for k, b in barriers.items()})
    same = _two({k: _verdict(b) for k, b in measures_landscape.basins(records).items()})
    losses = _two({k: text(b.loss) for k, b in barriers.items()})
    shared = _two({k: cka(measures_similarity.mean_similarity(v)) for k, v in layers.items()})
    l2 = _two({k: text(d.total_l2) for k, d in distances.items()})
    kappa = _two({k: text(a.kappa) for k, a in agreements.items()})
    return Table(
        ("", "P-T", "RI-T", "paper"),
        (
            ("Final test accuracy", *map(percent, final), verdict["curves"]),
            ("Average training accuracy", *map(percent, speed), learning),
            (f"Accuracy dip between two, points{level}", *dips, verdict["barrier"]),
            (f"Loss barrier between two, nats{level}", *losses, verdict["barrier"]),
            ("Two in the same basin?", *same, verdict["landscape"]),
            (f"Feature similarity of two, mean CKA{cka_level}", *shared, verdict["similarity"]),
            ("Criticality of all modules", *_two(network_criticality(records)), ""),
            ("Distance between two, l2", *l2, verdict["distances"]),
            ("Agreement in mistakes of two, kappa", *kappa, verdict["agreement"]),
        ),
    )


def curves(records: Records) -> Table | None:
    """Returns a row a run on the unshuffled target; None: no data."""
    found = measures.curves(records)
    rows = tuple((c.run, c.kind, percent(c.final), percent(c.speed)) for c in found)
    columns = ("run", "kind", "final test accuracy", "average training accuracy")
    return Table(columns, rows) if rows else None


def shuffle(records: Records) -> Table | None:
    """Returns a row a way of shuffling; None where nothing was shuffled."""
    found = measures.shuffles(records)
    if all(r.name == "none" for r in found):
        return None
    columns = (
        "block size",
        "P-T, test",
        "RI-T, test",
        "relative drop",
        "P-T, training avg.",
        "RI-T, training avg.",
    )
    rows = tuple(
        (
            r.label,
            *(percent(r.accuracy.get(k, UNKNOWN)) for k in ("P-T", "RI-T")),
            percent(r.drop),
            *(percent(r.speed.get(k, UNKNOWN), error=False) for k in ("P-T", "RI-T")),
        )
        for r in found
    )
    return Table(columns, rows)


def barrier(records: Records) -> Table | None:
    """Returns a row a kind of pair; None: no data."""
    columns = (
        "pair",
        "pairs",
        "accuracy, ends",
        "accuracy, middle",
        "dip, points",
        "loss barrier (chord)",
        "loss barrier (endpoint mean)",
    )
    rows = tuple(
        (
            pair_name(kinds),
            str(b.num_pairs),
            percent(b.ends),
            percent(b.middle),
            text(b.accuracy, 100.0),
            text(b.loss),
            text(b.endpoint_mean),
        )
        for kinds, b in measures_pairs.barriers(records).items()
    )
    return Table(columns, rows) if rows else None


def _level(records: Records, question: str) -> str:
    level = measures.confidence(records, question)
    return f" [{level}]" if level else ""


def _verdict(found: list[measures_landscape.Basin]) -> str:
    """Returns "yes", "no" or "open", or how many pairs say yes where they do not agree."""
    verdicts = [b.verdict for b in found]
    if len(set(verdicts)) == 1:
        return verdicts[0]
    return f"yes in {verdicts.count('yes')} of {len(verdicts)}"


def landscape(records: Records) -> Table | None:
    """Returns a row a pair: whether it shares a basin, and its (epsilon, delta); None: no data."""
    columns = (
        "pair",
        "same basin?",
        "loss barrier, nats",
        "error barrier, points",
        "ε",
        "δ",
        "δ / √dim",
    )
    rows = []
    for kinds, found in measures_landscape.basins(records).items():
        for i, b in enumerate(found, 1):
            spread = b.delta / b.num_parameters**0.5 if b.num_parameters else math.nan
            rows.append(
                (
                    pair_name(kinds) + (f" ({i})" if found[1:] else ""),
                    b.verdict,
                    text(b.loss),
                    text(b.error, 100.0),
                    text(b.epsilon),
                    significant(b.delta, 2) if math.isfinite(b.delta) else "none",
                    significant(spread, 2) if math.isfinite(spread) else "",
                )
            )
    return Table(columns, tuple(rows)) if rows else None


def permutation(records: Records) -> Table | None:
    """Returns a row an order of the units of RI-T: barriers and distance; None: no data."""
    columns = ("RI-T / RI-T", "dip, points", "loss barrier (chord)", "l2 distance")
    rows = tuple(
        (
            measures_landscape.VARIANTS[v.name],
            text(v.accuracy_barrier, 100.0),
            text(v.loss_barrier),
            text(v.distance) if v.distance.known else "",
        )
        for v in measures_landscape.permuted(records)
    )
    return Table(columns, rows) if rows else None


def distances(records: Records) -> Table | None:
    """Returns a row a kind of pair, with both totals; None: no data."""
    columns = ("pair", "pairs", "l2 of all parameters", "sum of l2 over tensors")
    rows = tuple(
        (pair_name(kinds), str(d.num_pairs), text(d.total_l2), text(d.total_sum))
        for kinds, d in measures_pairs.distances(records).items()
    )
    return Table(columns, rows) if rows else None


def agreement(records: Records) -> Table | None:
    """Returns a row a kind of pair: shares of test images, kappa; None: no data."""
    columns = ("pair", "pairs", "both wrong", "only first", "only second", "shared of all", "kappa")
    rows = []
    for kinds, a in measures_pairs.agreements(records).items():
        shares = [
            f"{100 * c.sum() / a.examples:.1f}%" if a.examples else NO_DATA
            for c in (a.common, a.only_a, a.only_b)
        ]
        overlap, kappa = percent(a.overlap), text(a.kappa)
        rows.append((pair_name(kinds), str(a.num_pairs), *shares, overlap, kappa))
    return Table(columns, tuple(rows)) if rows else None


def summary(records: Records) -> str:
    """Returns the key numbers and the answers as plain text, for the end of a run.

    Args:
        records: a study's records, or the path of their folder.

    Returns:
        Lines of at most 100 characters; "no data" where something was not measured.

    Raises:
        ValueError: a path that is no folder.
    """
    records = listed(records)
    parts = [headline(records).text()]
    for name, ask in answers.QUESTIONS.items():
        answer = ask(records).sentence or f"{NO_DATA.capitalize()}."
        parts.append(
            f"{TITLES[name]}\n"
            + textwrap.fill(answer, 96, initial_indent="  ", subsequent_indent="  ")
        )
    return "\n\n".join(parts) + "\n"


def _two(cells: dict[Pair, str]) -> tuple[str, str]:
    return cells.get(P_T, NO_DATA), cells.get(RI_T, NO_DATA)


TABLES = {
    "curves": curves,
    "shuffle": shuffle,
    "barrier": barrier,
    "landscape": landscape,
    "permutation": permutation,
    "similarity": similarity,
    "similarity_shuffled": similarity_shuffled,
    "probes": probes,
    "partial_transfer": partial_transfer,
    "spectra": spectra,
    "criticality": modules,
    "distances": distances,
    "agreement": agreement,
}
