"""The tables of the page, each also as text for a terminal."""

from __future__ import annotations

import math
import os
import textwrap

from tlx.report import (
    answers,
    measures,
    measures_landscape,
    measures_mistakes,
    measures_pairs,
    measures_similarity,
    verdicts,
)
from tlx.report.answers_similarity import cka
from tlx.report.kinds import Pair, pair_name
from tlx.report.measures import Records, listed
from tlx.report.measures_training import plain
from tlx.report.numbers import NO_DATA, percent, significant, text
from tlx.report.table import Table
from tlx.report.tables_amount import amount, domains
from tlx.report.tables_depth import partial_transfer, probes, spectra
from tlx.report.tables_mistakes import mistakes
from tlx.report.tables_modules import modules, network_criticality
from tlx.report.tables_similarity import similarity, similarity_shuffled
from tlx.report.tables_starts import starts, transferability
from tlx.report.tables_training import curves, shuffle
from tlx.report.verdicts import P_T, RI_T

TITLES = {
    "curves": "Does pretraining help on the target?",
    "shuffle": "Is it features or low-level statistics?",
    "amount": "How much data, how far a domain?",
    "starts": "From which checkpoint should one start?",
    "barrier": "Are two models joined by a straight line?",
    "landscape": "What does the loss landscape between them look like?",
    "similarity": "Do they compute the same features?",
    "depth": "What is in which layer, and how deep does it transfer?",
    "modules": "Which modules carry it?",
    "distances": "How far apart are they in parameter space?",
    "mistakes": "Do they make the same mistakes?",
}

# For the headline's last column: does the paper's order hold here?
_VERDICTS = {
    verdicts.AGREES: "agrees",
    verdicts.DIFFERS: "differs",
    verdicts.OPEN: "too close",
    verdicts.NO_INTERVAL: "no interval",
    "": "",
}


def headline(records: Records) -> Table:
    """Returns the key numbers of a study: P-T against RI-T, and whether the paper's order holds.

    Args:
        records: a study's records, or the path of their folder.

    Returns:
        A row a quantity that was measured of P-T or of RI-T; all of them, with "no data", where
        none was.
    """
    records = listed(records)
    runs = plain(records)
    barriers = measures_pairs.barriers(records)
    layers = measures_similarity.layers(records)
    distances = measures_pairs.distances(records)
    alike = measures_mistakes.mistakes(records)
    verdict = {name: _VERDICTS[ask(records).verdict] for name, ask in answers.QUESTIONS.items()}
    level, cka_level, kappa_level = (
        _level(records, name) for name in ("interpolation", "similarity", "mistakes")
    )
    dips = _two({k: text(b.accuracy, 100.0) for k, b in barriers.items()})
    same = _two({k: _verdict(b) for k, b in measures_landscape.basins(records).items()})
    losses = _two({k: text(b.loss) for k, b in barriers.items()})
    shared = _two({k: cka(measures_similarity.mean_similarity(v)) for k, v in layers.items()})
    l2 = _two({k: text(d.total_l2) for k, d in distances.items()})
    kappa = _two({k: text(g.kappa) for k, g in alike.groups.items()} if alike else {})
    rows = (
        ("Final test accuracy", *map(percent, runs.final.values()), verdict["curves"]),
        (
            "Average training accuracy",
            *map(percent, runs.speed.values()),
            _VERDICTS[runs.learns_faster],
        ),
        (f"Accuracy dip between two, points{level}", *dips, verdict["barrier"]),
        (f"Loss barrier between two, nats{level}", *losses, verdict["barrier"]),
        ("Two in the same basin?", *same, verdict["landscape"]),
        (f"Feature similarity of two, mean CKA{cka_level}", *shared, verdict["similarity"]),
        ("Criticality of all modules", *_two(network_criticality(records)), ""),
        ("Distance between two, l2", *l2, verdict["distances"]),
        (f"Agreement in mistakes of two, kappa{kappa_level}", *kappa, verdict["mistakes"]),
    )
    measured = tuple(row for row in rows if set(row[1:3]) != {NO_DATA})
    return Table(("", "P-T", "RI-T", "paper"), measured or rows)


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


def summary(records: Records) -> str:
    """Returns the key numbers and the answers as plain text, for the end of a run.

    Args:
        records: a study's records, or the path of their folder.

    Returns:
        Lines of at most 100 characters; "no data" where something was not measured. At the end
        the problems with the records, where there are any.

    Raises:
        ValueError: a path that is no folder.
    """
    if not isinstance(records, str | os.PathLike):
        records = listed(records)
    problems, records = measures.problems(records), listed(records)
    parts = [headline(records).text()]
    for name, ask in answers.QUESTIONS.items():
        answer = ask(records).sentence or f"{NO_DATA.capitalize()}."
        parts.append(
            f"{TITLES[name]}\n"
            + textwrap.fill(answer, 96, initial_indent="  ", subsequent_indent="  ")
        )
    if problems:
        wrapped = [textwrap.fill(p, 96, initial_indent="  ", subsequent_indent="    ")
                   for p in problems]  # fmt: skip
        parts.append("\n".join(["Records left out or with problems", *wrapped]))
    return "\n\n".join(parts) + "\n"


def _two(cells: dict[Pair, str]) -> tuple[str, str]:
    return cells.get(P_T, NO_DATA), cells.get(RI_T, NO_DATA)


TABLES = {
    "curves": curves,
    "shuffle": shuffle,
    "amount": amount,
    "domains": domains,
    "starts": starts,
    "transferability": transferability,
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
    "mistakes": mistakes,
}
