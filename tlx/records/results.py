"""What a record of each kind holds: the one contract of who writes it and who reads it.

Dimensions: T steps or evaluations, K points of a line, M modules, L layers, A alphas, S sigmas,
P places, R learning rates, N runs, C classes. Scalars are [] and text is str arrays. What is
undefined is NaN; a field with a default is NaN where it does not apply. `NAME_low` and `NAME_high`
are the ends of the interval of NAME, at the option `confidence`.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from tlx.records.names import Kind, differences, kind

Array = np.ndarray
UNDEFINED = np.asarray(np.nan)


class LearningCurve(NamedTuple):
    """How one run learned, on clean images."""

    step: Array  # [T]
    test_accuracy: Array  # [T]
    test_loss: Array  # [T], nats
    train_accuracy: Array  # [T]
    train_loss: Array  # [T]
    valid_accuracy: Array  # [T], of images held out of training; NaN where there are none
    valid_loss: Array  # [T]
    average_train_accuracy: Array  # [], the mean over the evaluations after step 0
    area_train_accuracy: Array  # [], the mean under the curve
    area_test_accuracy: Array  # []
    best_step: Array  # [], of the highest test accuracy
    best_accuracy: Array  # []
    selected_step: Array  # [], of the highest accuracy on images held out
    selected_accuracy: Array  # [], on test images at that step
    num_test: Array  # [], images
    num_valid: Array  # []
    num_train: Array  # []
    test_auc: Array = UNDEFINED  # [T], with several labels an image


class MeanLearningCurves(NamedTuple):
    """How the recipes (G of them: a kind at a learning rate) learned, over their seeds."""

    step: Array  # [T]
    kinds: Array  # str [G]
    rates: Array  # [G]
    seeds: Array  # int [G]
    test_mean: Array  # [G, T], accuracy
    test_low: Array
    test_high: Array
    train_mean: Array  # [G, T], accuracy
    train_low: Array
    train_high: Array
    loss_mean: Array  # [G, T], on test images
    loss_low: Array
    loss_high: Array
    final_mean: Array  # [G], the last test accuracy
    final_low: Array
    final_high: Array
    best: Array  # [G, seeds], the highest test accuracy
    best_step: Array  # [G, seeds]
    selected: Array  # [G, seeds], the test accuracy at the step chosen by images held out
    selected_step: Array  # [G, seeds]
    optimism: Array  # [G], by what the best is above the selected, in the mean
    num_examples: Array  # [], test images
    num_valid: Array  # []
    auc_mean: Array = UNDEFINED  # [G, T], with several labels an image
    auc_low: Array = UNDEFINED
    auc_high: Array = UNDEFINED


class Sweep(NamedTuple):
    """The runs along an axis of C cells, by kind (K of them), rate and seed; and differences."""

    values: Array  # str [C]
    kinds: Array  # str [K]
    plain: Array  # str [], the value of the plain runs
    rates: Array  # [K, R]
    final: Array  # [K, C, R, seeds], the last test accuracy; so the next five
    valid: Array
    average: Array
    area: Array
    best: Array
    selected: Array
    steps_to: Array  # [K, C, R, seeds], to the accuracy `reach`
    reach: Array  # [C]
    chosen: Array  # int [K, C], the rate that was chosen
    num_seeds: Array  # int [K, C], at that rate; so what follows
    final_mean: Array  # [K, C]
    final_low: Array
    final_high: Array
    average_mean: Array  # [K, C]
    average_low: Array
    average_high: Array
    difference: Array  # [C], of the last accuracies, P-T − RI-T
    difference_low: Array
    difference_high: Array
    difference_p: Array
    difference_p_holm: Array
    drop: Array  # [C], the relative drop of accuracy
    drop_low: Array
    drop_high: Array
    drop_p: Array
    speed: Array  # [C], the difference of the average training accuracies
    speed_low: Array
    speed_high: Array
    speed_p: Array
    speed_p_holm: Array
    from_plain: Array  # [C], by how much `difference` is larger at the plain value
    from_plain_low: Array
    from_plain_high: Array
    from_plain_p: Array
    chance: Array  # str [C], what the intervals are over
    num_examples: Array  # int [C], test images
    train_size: Array  # int [C]
    num_classes: Array  # int [C]
    chosen_on: Array  # str [], the split by which rates are chosen; "" of one rate
    earliest: Array = UNDEFINED  # str [], from which on no checkpoint is worse than the last
    contrasts: Array = UNDEFINED  # str [Q], of further arms, as "P-T − S-T" and "S-T − RI-T"
    contrast: Array = UNDEFINED  # [Q, C], of the last accuracies
    contrast_low: Array = UNDEFINED
    contrast_high: Array = UNDEFINED
    contrast_p: Array = UNDEFINED
    contrast_drop: Array = UNDEFINED  # [Q, C], the relative drop of accuracy
    contrast_drop_low: Array = UNDEFINED
    contrast_drop_high: Array = UNDEFINED
    contrast_speed: Array = UNDEFINED  # [Q, C], of the average training accuracies
    contrast_speed_low: Array = UNDEFINED
    contrast_speed_high: Array = UNDEFINED
    contrast_speed_p: Array = UNDEFINED


class Checkpoints(NamedTuple):
    """How good P was at its checkpoints, and whether they lie in the basin of its last one."""

    step: Array  # int [T]
    accuracy: Array  # [T]
    loss: Array  # [T]
    barrier: Array  # [T], in 0-1 error, to the last
    barrier_low: Array
    barrier_high: Array
    verdict: Array  # str [T]: "yes", "no", "open"
    tolerance: Array  # []
    num_examples: Array  # []


class Domains(NamedTuple):
    """The Fréchet distance of targets to P's source, in features of P."""

    targets: Array  # str [N]
    distance: Array  # [N]
    floor: Array  # [], between the source's training and test images
    num_examples: Array  # int [N]
    num_features: Array  # []
    source: Array  # str []


class Transferability(NamedTuple):
    """How well Q scores of P's checkpoints rank what fine-tuning from each (V of them) gives."""

    values: Array  # str [V]
    measured: Array  # [V], accuracy
    scores: Array  # str [Q]
    score: Array  # [Q, V]
    weighted_tau: Array  # [Q]
    p_weighted_tau: Array
    kendall: Array  # [Q]
    p_kendall: Array
    p_holm: Array  # [Q]
    num_examples: Array  # []


class Interpolation(NamedTuple):
    """The metrics on the line between two runs, and the barrier there."""

    alphas: Array  # [K]
    loss: Array  # [K], nats
    accuracy: Array  # [K]
    barrier_chord: Array  # [], of the loss above the chord
    barrier_chord_low: Array
    barrier_chord_high: Array
    barrier_endpoint_mean: Array  # [], above the mean of the ends
    accuracy_barrier: Array  # [], by what the accuracy falls under the chord
    accuracy_barrier_low: Array
    accuracy_barrier_high: Array
    num_examples: Array  # []
    statistics: Array  # str [], the rule of the batch statistics
    auc: Array = UNDEFINED  # [K], with several labels an image
    auc_barrier: Array = UNDEFINED  # []


class CheckpointInterpolation(NamedTuple):
    """The metrics on the line between two checkpoints, as those of an `Interpolation`."""

    alphas: Array  # [K]
    loss: Array  # [K], nats
    accuracy: Array  # [K]
    barrier_chord: Array  # []
    barrier_chord_low: Array
    barrier_chord_high: Array
    accuracy_barrier: Array  # []
    accuracy_barrier_low: Array
    accuracy_barrier_high: Array
    num_examples: Array  # []
    statistics: Array  # str []


class Similarity(NamedTuple):
    """The debiased CKA of all layers of two runs."""

    layers_a: Array  # str [La]
    layers_b: Array  # str [Lb]
    debiased: Array  # [La, Lb]; so the next six
    biased: Array
    chance: Array
    z: Array
    low: Array
    high: Array
    too_few: Array  # bool
    num_examples: Array  # []
    num_left_out: Array  # []


class SimilarityByStep(NamedTuple):
    """The debiased CKA of each layer of a run, at its checkpoints, with the same one of another."""

    step: Array  # int [T]
    layers: Array  # str [L]
    debiased: Array  # [T, L]; so the next six
    biased: Array
    chance: Array
    z: Array
    low: Array
    high: Array
    too_few: Array  # bool
    num_examples: Array  # []
    num_left_out: Array  # []


class Distances(NamedTuple):
    """How far the weights of two runs are apart."""

    modules: Array  # str [M]
    l2: Array  # [M]
    relative: Array  # [M]
    cosine: Array  # [M]
    total_l2: Array  # [], without the head
    total_sum_of_tensor_norms: Array  # []
    total_l2_normalised: Array  # [], with weights at length 1 whose scale does not matter
    num_scale_invariant: Array  # []


class Mistakes(NamedTuple):
    """The mistakes of N runs on the same images, and which they share."""

    models: Array  # str [N]
    kinds: Array  # str [N]
    accuracy: Array  # [N]
    cells: Array  # int [N, N, 4], as `tlx.analyses.function.mistakes.CELLS`
    cells_by_class: Array  # int [N, N, C, 4]
    expected_common: Array  # [N, N], common mistakes of independent models
    expected_common_by_class: Array  # [N, N, C]
    disagreement: Array  # [N, N]
    p_value: Array  # [N, N]
    p_value_by_class: Array  # [N, N, C]
    p_holm: Array  # [N, N]
    kappa: Array  # [N, N], agreement beyond chance
    kappa_low: Array
    kappa_high: Array
    capa: Array  # [N, N], the same by probabilities
    capa_low: Array
    capa_high: Array
    confidence: Array  # [N, N, 4], of the first model, in the mean over each of the cells
    margin: Array  # [N, N, 4]
    num_examples: Array  # []
    num_classes: Array  # []
    is_multilabel: Array  # bool []
    gallery_models: Array = UNDEFINED  # str [2], a P-T and a RI-T
    gallery_names: Array = UNDEFINED  # str [3], whose mistakes each row shows
    gallery_order: Array = UNDEFINED  # str [], by what the images are ordered
    gallery_total: Array = UNDEFINED  # int [3]
    gallery_images: Array = UNDEFINED  # uint8 [3, shown, S, S, channels]
    gallery_index: Array = UNDEFINED  # int [3, shown], −1 where there are fewer
    gallery_judgement: Array = UNDEFINED  # int [3, shown], the label that was judged
    gallery_label: Array = UNDEFINED  # [3, shown]
    gallery_answer: Array = UNDEFINED  # [3, shown, 2]
    gallery_confidence: Array = UNDEFINED  # [3, shown, 2]


class Plane(NamedTuple):
    """The metrics on the plane through three runs."""

    x: Array  # [W]
    y: Array  # [H]
    loss: Array  # [H, W]
    accuracy: Array  # [H, W]
    models_xy: Array  # [3, 2]
    model_loss: Array  # [3]
    model_accuracy: Array  # [3]
    num_examples: Array  # []
    statistics: Array  # str []


class Basin(NamedTuple):
    """Whether two runs share a basin of the 0-1 error: definition 3.1 of the paper."""

    verdict: Array  # str []: "yes", "no", "open"
    barrier: Array  # [], of the loss
    barrier_low: Array
    barrier_high: Array
    error_barrier: Array  # []
    error_low: Array
    error_high: Array
    tolerance: Array  # []
    mean_loss: Array  # []
    epsilon: Array  # []
    epsilon_error: Array
    deltas: Array  # [D]
    noise_rise: Array  # [D]
    noise_rise_error: Array
    beyond_rise: Array  # [D]
    beyond_rise_error: Array
    delta: Array  # []
    num_draws: Array  # []
    num_parameters: Array  # []
    num_examples: Array  # []
    statistics: Array  # str []


class Permutation(NamedTuple):
    """The line between two runs, as they are and with the second's units in the first's order."""

    alphas: Array  # [K]
    variants: Array  # str [V]: "plain", matched by "weights", by "activations", these "repaired"
    loss: Array  # [V, K]
    accuracy: Array  # [V, K]
    barrier: Array  # [V], of the loss above the chord
    barrier_low: Array
    barrier_high: Array
    accuracy_barrier: Array  # [V]
    accuracy_barrier_low: Array
    accuracy_barrier_high: Array
    distance: Array  # [V], between the weights; NaN for "repaired", whose weights are not b's
    num_units: Array  # []
    num_examples: Array  # []
    statistics: Array  # str [V]


class Rewinding(NamedTuple):
    """What a run loses where one module goes back to one of its checkpoints."""

    modules: Array  # str [M]
    step: Array  # int [T]
    accuracy: Array  # [M, T]
    loss: Array  # [M, T]
    accuracy_drop: Array  # [M, T]
    accuracy_drop_low: Array
    accuracy_drop_high: Array
    trained_accuracy: Array  # []
    trained_loss: Array  # []
    num_examples: Array  # []
    statistics: Array  # str []


class Criticality(NamedTuple):
    """The error with one module elsewhere on a path, in noise; and the module's criticality."""

    modules: Array  # str [M]
    alphas: Array  # [A]
    step: Array  # int, the checkpoints that the path goes through
    sigmas: Array  # [S]
    distances: Array  # [M, A]
    sizes: Array  # int [M]
    error: Array  # [M, A, S]
    error_error: Array
    loss: Array  # [M, A, S]
    loss_error: Array
    trained_error: Array  # []
    trained_loss: Array  # []
    threshold: Array  # []
    criticality: Array  # [M]
    alpha: Array  # [M], where it is least
    sigma: Array  # [M]
    total: Array  # []
    bound: Array  # [], of PAC-Bayes
    bound_noisy_error: Array  # []
    bound_complexity: Array  # []
    num_draws: Array  # []
    num_examples: Array  # []
    statistics: Array  # str []


class Movement(NamedTuple):
    """How far each module of a run was from its start by step, and how straight it went there."""

    modules: Array  # str [M]
    step: Array  # int [T]
    norm: Array  # [T, M]; so the next three
    displacement: Array
    path: Array
    straightness: Array
    to_end: Array  # [T − 1, M]
    total_norm: Array  # [T]; so the next three
    total_displacement: Array
    total_path: Array
    total_straightness: Array
    total_to_end: Array  # [T − 1]


class MovementAlignment(NamedTuple):
    """Whether two runs moved in the same directions."""

    modules: Array  # str [M]
    cosine: Array  # [M]
    chance: Array  # [M], the spread of the cosine of independent directions
    z: Array  # [M]
    total_cosine: Array  # []
    total_z: Array  # []
    layers: Array  # str [L]
    overlap_inputs: Array  # [L], of the leading directions
    overlap_inputs_chance: Array
    overlap_outputs: Array  # [L]
    overlap_outputs_chance: Array


class LinearProbes(NamedTuple):
    """What a linear map reads from each layer of a run."""

    layers: Array  # str [L]
    accuracy: Array  # [L]
    low: Array
    high: Array
    ridge: Array  # [L]
    num_features: Array  # int [L]
    num_train: Array  # []
    num_examples: Array  # []
    num_classes: Array  # []
    spatial: Array  # str []


class Spectra(NamedTuple):
    """The singular values of each layer of a run, by step."""

    layers: Array  # str [L]
    step: Array  # int [T]
    is_conv: Array  # bool [L]
    spectral_norm: Array  # [T, L]; so the next four
    frobenius_norm: Array
    stable_rank: Array
    effective_rank: Array
    alpha: Array  # the exponent of the tail
    quantiles: Array  # [Q]
    singular_values: Array  # [L, Q], after the last step


class Instability(NamedTuple):
    """A run and its copies, which part from it at a step, T of them: by other orders or noise."""

    step: Array  # int [T], at which a copy parts from the run
    barrier: Array  # [T], of the loss on the line between both, above its chord, nats
    barrier_low: Array
    barrier_high: Array
    accuracy_barrier: Array  # [T], of the accuracy below its chord
    accuracy_barrier_low: Array
    accuracy_barrier_high: Array
    aligned_barrier: Array  # [T], with the copy's hidden units in the order of the run's
    aligned_barrier_low: Array
    aligned_barrier_high: Array
    aligned_accuracy_barrier: Array
    aligned_accuracy_barrier_low: Array
    aligned_accuracy_barrier_high: Array
    distance: Array  # [T], l2 of the weights
    similarity: Array  # [T], debiased CKA of a layer with itself, mean over layers
    num_examples: Array  # [], test images
    noise: Array = UNDEFINED  # [], share of each tensor's root mean square; 0: another order


class Study(NamedTuple):
    """How long each run of a study took."""

    run: Array  # str [N]
    seconds: Array  # [N]


_OF_PAIR = "a b kind_a kind_b", "pair shuffle split"
_CKA = "batch_size spatial num_resamples confidence"
_ON_LINE = "num_alphas confidence"

KINDS: Mapping[str, Kind] = {
    "learning_curve": kind(
        LearningCurve, "run kind", "shuffle replicate target rate further_rate part cell"
    ),
    "mean_learning_curves": kind(MeanLearningCurves, "target", "split", "confidence selected_on"),
    "sweep": kind(Sweep, "axis target", "split", "confidence selected_on"),
    "checkpoints": kind(Checkpoints, "run", "split", "num_alphas tolerance confidence"),
    "domains": kind(Domains, "run", "", "layer"),
    "transferability": kind(Transferability, "axis target", "split", "layer probe_split"),
    "mistakes": kind(Mistakes, "models kinds", "target split", "confidence threshold shown"),
    "interpolation": kind(Interpolation, *_OF_PAIR, _ON_LINE),
    "checkpoint_interpolation": kind(
        CheckpointInterpolation, "a b kind_a kind_b at", "split", _ON_LINE
    ),
    "plane": kind(Plane, "models kinds", "split", "num_points"),
    "basin": kind(Basin, *_OF_PAIR, "loss noise num_draws tolerance confidence"),
    "permutation": kind(Permutation, *_OF_PAIR, _ON_LINE),
    "instability": kind(Instability, "run kind", "shuffle replicate split", f"{_ON_LINE} {_CKA}"),
    "similarity": kind(Similarity, *_OF_PAIR, _CKA),
    "similarity_by_step": kind(SimilarityByStep, *_OF_PAIR, _CKA),
    "linear_probes": kind(LinearProbes, "run kind", "shuffle step split"),
    "rewinding": kind(Rewinding, "run kind", "shuffle replicate split", "confidence"),
    "criticality": kind(
        Criticality,
        "run kind path",
        "shuffle replicate split",
        "num_alphas sigmas num_draws tolerance",
    ),
    "distances": kind(Distances, *_OF_PAIR, "totals_without"),
    "movement": kind(Movement, "run kind", "shuffle"),
    "movement_alignment": kind(MovementAlignment, *_OF_PAIR, "rank"),
    "spectra": kind(Spectra, "run kind", "shuffle", "kind"),
    "study": kind(Study, "name", "", "config"),
}
"""The kinds of record that a study writes and the page shows, by question."""


def incomplete(results: Any, **known: Any) -> Any:
    """Results of which only some fields are known; the others are NaN.

    For a record made by hand, whose page then says "no data" where they are needed.

    Args:
      results: one of the NamedTuples of `tlx.records.results`.
      **known: its fields.

    Raises:
      ValueError: for a name that is none of its fields.
    """
    problems = differences(results.__name__, known, (), results._fields)
    if problems:
        raise ValueError("; ".join(problems))
    return results(**{name: known.get(name, UNDEFINED) for name in results._fields})
