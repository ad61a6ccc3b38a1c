"""What a record of each kind has: the names of its inputs, options and results.

The one table against which a record is checked where it is read. A name that is missing or that
no record of the kind has is a problem, told by name: a misspelt one would else be no data.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import NamedTuple

from tlx.records.schema import Record


class Fields(NamedTuple):
    """The names in a record of one kind.

    Attributes:
        needed: results without which the record cannot be used.
        results: the others that every such record has.
        optional: results that only some have.
        inputs, options: of the key, all of them.
        optional_inputs: inputs that only some have.
    """

    needed: frozenset[str]
    results: frozenset[str] = frozenset()
    optional: frozenset[str] = frozenset()
    inputs: frozenset[str] = frozenset()
    options: frozenset[str] = frozenset()
    optional_inputs: frozenset[str] = frozenset()


def _names(words: str) -> frozenset[str]:
    """The names in a text; ``name:`` stands for a name with both ends of its interval."""
    found: set[str] = set()
    for word in words.split():
        stem = word.removesuffix(":")
        # The ends of "test_mean" are "test_low" and "test_high".
        ends = [f"{stem.removesuffix('_mean')}_{end}" for end in ("low", "high")]
        found |= {stem, *(ends if word != stem else ())}
    return frozenset(found)


def _fields(
    needed: str,
    results: str = "",
    *,
    inputs: str,
    options: str = "",
    optional: str = "",
    optional_inputs: str = "",
) -> Fields:
    names = map(_names, (needed, results, optional, inputs, options, optional_inputs))
    found = Fields(*names)
    return found._replace(results=found.results - found.needed)


_PAIR = "a b kind_a kind_b pair shuffle"
_RUN = "run kind shuffle"
_EVIDENCE = "biased chance z low high too_few count num_left_out"
_CKA = "batch_size spatial num_resamples confidence"

FIELDS = {
    "curves": _fields(
        "step test_accuracy",
        "average_train_accuracy area_train_accuracy area_test_accuracy best_step best_accuracy "
        "selected_step selected_accuracy valid_accuracy train_accuracy test_loss valid_loss "
        "train_loss num_test num_valid num_train",
        optional="test_auc",
        inputs=f"{_RUN} replicate target rate",
        optional_inputs="further_rate part cell",
    ),
    "learning": _fields(
        "step kinds test_mean",
        "rates seeds test_mean: train_mean: loss_mean: final_mean: best best_step selected "
        "selected_step optimism count num_valid",
        optional="auc_mean:",
        inputs="target split",
        options="confidence selected_on",
    ),
    "sweep": _fields(
        "values kinds final",
        "plain rates valid average area best selected steps_to reach chosen num_seeds final_mean: "
        "average_mean: difference: difference_p difference_p_holm drop: drop_p speed: speed_p "
        "speed_p_holm chance count train_size num_classes chosen_on",
        optional="earliest",
        inputs="axis target split",
        options="confidence selected_on",
    ),
    "checkpoints": _fields(
        "step accuracy barrier verdict",
        "loss barrier: tolerance count",
        inputs="run split",
        options="num_alphas tolerance confidence",
    ),
    "domains": _fields(
        "targets distance",
        "floor count num_features source",
        inputs="run",
        options="layer",
    ),
    "transferability": _fields(
        "values measured scores score",
        "weighted_tau p_weighted_tau kendall p_kendall p_holm count",
        inputs="axis target split",
        options="layer probe_split",
    ),
    "interpolation": _fields(
        "alphas loss accuracy count",
        "barrier_chord: barrier_endpoint_mean accuracy_barrier: statistics",
        optional="auc auc_barrier",
        inputs=f"{_PAIR} split",
        options="num_alphas confidence",
    ),
    "similarity": _fields(
        "layers_a layers_b debiased", _EVIDENCE, inputs=f"{_PAIR} split", options=_CKA
    ),
    "similarity_trajectory": _fields(
        "step layers debiased", _EVIDENCE, inputs=f"{_PAIR} split", options=_CKA
    ),
    "distances": _fields(
        "modules l2 total_l2",
        "relative cosine total_sum_of_tensor_norms total_l2_normalised num_scale_invariant",
        inputs=_PAIR,
        options="totals_without",
    ),
    "mistakes": _fields(
        "models kinds cells cells_by_class expected_common kappa",
        "accuracy expected_common_by_class disagreement p_value p_value_by_class kappa: capa: "
        "p_holm confidence margin count num_classes is_multilabel",
        optional=" ".join(
            f"gallery_{name}"
            for name in [
                "models",
                "names",
                "order",
                "total",
                "images",
                "index",
                "judgement",
                "label",
                "answer",
                "confidence",
            ]
        ),
        inputs="models kinds target split",
        options="confidence threshold shown",
    ),
    "plane": _fields(
        "x y loss accuracy models_xy",
        "model_loss model_accuracy count statistics",
        inputs="models kinds split",
        options="num_points",
    ),
    "basin": _fields(
        "verdict epsilon delta deltas noise_rise beyond_rise",
        "barrier: error_barrier error_low error_high tolerance mean_loss epsilon_error "
        "noise_rise_error beyond_rise_error num_draws num_parameters count statistics",
        inputs=f"{_PAIR} split",
        options="loss noise num_draws tolerance confidence",
    ),
    "permutation": _fields(
        "alphas loss_plain accuracy_plain",
        "distance_before num_units count statistics barrier_plain: accuracy_barrier_plain:",
        optional=" ".join(
            f"loss_{v} accuracy_{v} barrier_{v}: accuracy_barrier_{v}: distance_{v}"
            for v in ("weights", "activations", "repaired")
        ),
        inputs=f"{_PAIR} split",
        options="num_alphas confidence",
    ),
    "rewinding": _fields(
        "modules step accuracy_drop",
        "accuracy_drop: accuracy loss trained_accuracy trained_loss count statistics",
        inputs=f"{_RUN} replicate split",
        options="confidence",
    ),
    "criticality": _fields(
        "modules alphas sigmas distances error criticality",
        "step sizes loss loss_error error_error trained_error trained_loss threshold alpha sigma "
        "total bound bound_noisy_error bound_complexity count num_draws statistics",
        inputs=f"{_RUN} replicate split path",
        options="num_alphas sigmas num_draws tolerance",
    ),
    "movement": _fields(
        "modules displacement path",
        "step norm straightness to_end total_norm total_displacement total_path "
        "total_straightness total_to_end",
        inputs=_RUN,
    ),
    "movement_alike": _fields(
        "modules cosine z",
        "chance total_cosine total_z layers overlap_inputs overlap_inputs_chance overlap_outputs "
        "overlap_outputs_chance",
        inputs=_PAIR,
        options="rank",
    ),
    "probes": _fields(
        "layers accuracy",
        "low high ridge num_features num_train count num_classes spatial",
        inputs=f"{_RUN} step split",
    ),
    "spectra": _fields(
        "layers stable_rank spectral_norm quantiles singular_values",
        "step is_conv frobenius_norm effective_rank alpha",
        inputs=_RUN,
        options="kind",
    ),
    "study": _fields("run seconds", inputs="name", options="config"),
}
"""What the records of a study have, by kind."""


def lacking(record: Record) -> list[str]:
    """Returns the results without which a record cannot be used, of those that it lacks."""
    wanted = FIELDS[record.question].needed if record.question in FIELDS else frozenset()
    return sorted(wanted - set(record.results))


def problems(record: Record) -> list[str]:
    """Returns what is wrong with the names in a record, each in a few words.

    Such as ``"lacks the result speed"`` and ``"has an unknown result 'sped' (nearest: 'speed')"``;
    first what it cannot be used without. Empty where it has all that its kind has and nothing else.
    """
    fields = FIELDS.get(record.question)
    if fields is None:
        return [f"is of no known kind{_nearest(record.question, FIELDS)}"]
    options = record.key.get("options") or {}
    needed = lacking(record)
    return [
        *([f"lacks {', '.join(needed)}, without which it is left out"] if needed else []),
        *_differences("input", record.inputs, fields.inputs, fields.optional_inputs),
        *_differences("option", options, fields.options, frozenset()),
        *_differences("result", record.results, fields.results, fields.optional | fields.needed),
    ]


def _differences(
    what: str, found: Iterable[str], wanted: frozenset[str], optional: frozenset[str]
) -> list[str]:
    missing = sorted(wanted - set(found))
    lacks = f"lacks the {what if len(missing) == 1 else what + 's'} {', '.join(missing)}"
    return [lacks] * bool(missing) + [
        f"has an unknown {what} {name!r}{_nearest(name, wanted | optional)}"
        for name in sorted(set(found) - wanted - optional)
    ]


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, sorted(known), 1)
    return f" (nearest: {near[0]!r})" if near else ""
