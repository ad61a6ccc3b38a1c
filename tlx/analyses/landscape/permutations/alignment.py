"""Permutation alignment: whether two models differ only in the order of their hidden units.

Two nets trained from different random weights may be the same solution up to the order of hidden
units; a loss barrier that vanishes after alignment was due to that order alone (Entezari et al.
2022; Ainsworth, Hayase, Srinivasa 2023, "Git Re-Basin"). Which units can be permuted, and which
leaves move with them, is derived from the traced model, not specified by hand.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from tlx.analyses.landscape.permutations import _activations, _assignment, _permutation, _symmetry
from tlx.analyses.landscape.permutations._permutation import check_same_function
from tlx.analyses.landscape.permutations._symmetry import Group, Permutations, Symmetry
from tlx.core import batch_statistics, checks, graph, host, public, shown, streams, tree
from tlx.core.types import ApplyFn, Params, Stream

__dir__ = public.names(__name__)

__all__ = [
    "Group", "Matching", "Permutations", "Symmetry", "activation_matching", "apply_permutation",
    "check_same_function", "match_many", "symmetry", "weight_matching",
]  # fmt: skip


@shown.short
class Matching(NamedTuple):
    """Permutations that align b with a.

    Attributes:
      permutations: group name to int32 [n], or [m, n] where the group is nested in one of m
        units: unit i of the result is unit `permutations[i]` of b.
      distance_before: float scalar, ‖a − b‖ over all floating leaves but running statistics.
      distance_after: float scalar, ‖a − P(b)‖.
    """

    permutations: Permutations
    distance_before: Float[Array, ""]
    distance_after: Float[Array, ""]


@host.only
def symmetry(apply_fn: ApplyFn, params: Params, inputs: Any, *, check: bool = True) -> Symmetry:
    """The permutations of hidden units that leave a model's function as it is.

    Derived by following every axis of every leaf through the traced model: products, sums,
    convolutions (grouped ones too), reshapes, normalisation in groups, pooling, attention
    heads. An operation without a known rule fixes the axes it reads, so the result is sound, if
    not always complete. Units nested in others (channels in a normalisation
    group, dimensions in a head) get a permutation for each outer unit.

    Args:
      apply_fn: pure `(params, inputs) -> outputs`, evaluation mode. It must not loop over layers
        by `lax.scan`, whose body is not analysed.
      params: pytree of arrays.
      inputs: a batch of inputs (two rows will do), for shapes and for the check.
      check: whether to permute all groups at random and compare outputs. Done on parameters
        perturbed at random, so that leaves of zeros (a new head) do not hide a change.

    Returns:
      `Symmetry`: `groups` (name, size, the group that it is nested in) and the factors of each
      leaf. It holds for all models of this architecture.

    Raises:
      ValueError: if no unit can be permuted, naming for each leaf the operation that holds its
        axes; or if the check fails, naming the group.

    Cost: one trace; the check adds a compilation and two or more forward passes.
    """
    traced = graph.trace(apply_fn, params, inputs)
    found = _symmetry.derive(traced, batch_statistics.leaves(apply_fn, params, inputs))
    if check:
        _permutation.check(apply_fn, found, params, inputs)
    return found


def apply_permutation(
    symmetry: Symmetry, permutations: Mapping[str, Any], params: Params
) -> Params:
    """The model with its hidden units in another order; it computes the same function.

    Unit i of each group is unit `permutations[group][i]` of `params`; for a nested group, its
    unit j in outer unit i is `permutations[group][i, j]` of the outer unit moved there.
    Groups without an entry stay. Leaves that are moved are copied.

    Raises:
      ValueError: for an unknown group, an array of another shape, or one that is no
        permutation, and if a leaf has not the shape that the symmetry was derived from.
    """
    for name, order in permutations.items():
        if name not in symmetry.groups:
            raise ValueError(checks.unknown("group", name, symmetry.groups))
        _permutation.check_order(symmetry, name, np.asarray(order))
    _permutation.check_shapes(symmetry, params)
    return _permutation.permuted(symmetry, permutations, params)


@host.only
def weight_matching(
    symmetry: Symmetry,
    params_a: Params,
    params_b: Params,
    *,
    key: Any = None,
    num_starts: int = 8,
) -> Matching:
    """Weight matching: the permutations that bring the weights of b closest to those of a.

    Coordinate ascent on ⟨a, P(b)⟩, which is descent on ‖a − P(b)‖: the groups are visited in
    random order, each set to its optimum (a linear assignment) with the others fixed, until
    nothing changes. That is a local optimum, so it is repeated from several starts and the best
    is kept. Running statistics move with their units and do not count.

    Args:
      symmetry: of the models.
      params_a: pytree of arrays, stays.
      params_b: pytree of the same structure, to be permuted.
      key: for the order of the groups; None takes key 0.
      num_starts: runs, of which all but the first begin at random permutations.

    Returns:
      `Matching`; apply it by `apply_permutation`.

    Raises:
      ValueError: if the models differ in structure, shape or dtype, or from the symmetry's, or
        if a weight is not finite.

    Numerics: products in float32 on the host (float64 for float64 leaves), sums in float64.
    Where a leaf has the units of a group on two axes (a residual layer's square kernel) or of
    two groups nested in one, the assignment is by the gradient, and taken only if it gains.
    Cost: Σ over groups of 2 · size × parameters of the leaves concerned, in flops, for each of
    about ten rounds a start; a ResNet-50 takes minutes a start on a CPU, so give it one or two.
    References: Ainsworth, Hayase, Srinivasa 2023, algorithm 1.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from tlx.analyses.landscape.permutations import alignment
    >>> def apply_fn(params, inputs):
    ...     return jax.nn.relu(inputs @ params["first"]) @ params["second"]
    >>> a = {"first": jnp.array([[1.0, -2.0, 3.0], [4.0, 5.0, -6.0]]), "second": jnp.eye(3)}
    >>> order = jnp.array([2, 0, 1])
    >>> b = {"first": a["first"][:, order], "second": a["second"][order]}
    >>> symmetry = alignment.symmetry(apply_fn, a, jnp.ones((2, 2)))
    >>> found = alignment.weight_matching(symmetry, a, b)
    >>> float(found.distance_after), [list(map(int, p)) for p in found.permutations.values()]
    (0.0, [[1, 2, 0]])
    """
    if num_starts < 1:
        raise ValueError(f"expected num_starts of at least 1, got {num_starts}")
    tree.same_structure(params_a, params_b)
    _permutation.check_shapes(symmetry, params_a)
    rng = np.random.default_rng(np.asarray(jax.random.key_data(_key(key))).ravel())
    a, b = (_assignment.counted(symmetry, p) for p in (params_a, params_b))
    squares = sum(float(np.sum(np.square(x, dtype=float))) for w in (a, b) for x in w.values())
    (a, of_a), (b, of_b) = (
        _unit_scale(a),
        _unit_scale(b),
    )  # the optimum does not depend on the scale
    best = _permutation.orders(symmetry)
    most = _assignment.objective(symmetry, a, b, best)
    for start in range(num_starts):
        found = _permutation.orders(symmetry, rng if start else None)
        _assignment.ascend(symmetry, a, b, found, rng)
        gained = _assignment.objective(symmetry, a, b, found)
        if gained > most:
            best, most = found, gained
        if (
            np.ldexp(2 * most, of_a + of_b) >= (1 - 1e-7) * squares
        ):  # at the upper bound, so optimal
            break
    return _matching(symmetry, best, params_a, params_b)


@host.only
def activation_matching(
    apply_fn: ApplyFn, symmetry: Symmetry, params_a: Params, params_b: Params, stream: Stream
) -> Matching:
    """Activation matching: the permutations under which b's activations correlate best with a's.

    For each group, the sum over the values that a layer reads (after the activation function)
    of the correlations, over examples and places, of paired units is maximal: a linear
    assignment, hence the global optimum. A unit without variance correlates with none. Units
    that are read only together with others (those that mix tokens, for each channel) are
    matched after these, in another pass.

    Args:
      apply_fn: pure `(params, inputs) -> outputs`, the one that the symmetry is of.
      symmetry: of the models.
      params_a: pytree of arrays, stays.
      params_b: pytree of the same structure, to be permuted.
      stream: batches of inputs; labels are not used.

    Returns:
      `Matching`.

    Raises:
      ValueError: as `weight_matching`; or for a group whose activations no layer reads.

    Numerics: moments in float32 or more, merged as by Chan, Golub and LeVeque (1983).
    Cost: one pass, but for what is said above; two forward passes a batch, and for each value
    with n units a product of n² flops an example and place. Memory: n² a value.
    References: Li et al. 2016, "Convergent learning"; Ainsworth et al. 2023, section 3.1.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from tlx.analyses.landscape.permutations import alignment
    >>> from tlx.core import streams
    >>> def apply_fn(params, inputs):
    ...     return jax.nn.relu(inputs @ params["first"]) @ params["second"]
    >>> a = {"first": jnp.eye(3), "second": jnp.ones((3, 1))}
    >>> b = {"first": 5 * jnp.eye(3)[:, ::-1], "second": jnp.ones((3, 1)) / 5}  # other scales
    >>> stream = streams.from_arrays(jnp.eye(3), batch_size=3)
    >>> symmetry = alignment.symmetry(apply_fn, a, jnp.eye(3))
    >>> found = alignment.activation_matching(apply_fn, symmetry, a, b, stream)
    >>> [list(map(int, p)) for p in found.permutations.values()]
    [[2, 1, 0]]
    """
    tree.same_structure(params_a, params_b)
    _permutation.check_shapes(symmetry, params_a)
    first, stream = streams.peek(stream)
    if first is None:
        raise ValueError("expected a stream with at least one batch, got none")
    traced = graph.trace(apply_fn, params_a, first["inputs"])
    if _symmetry.derive(traced, symmetry.statistics) != symmetry:
        raise ValueError(
            "expected the symmetry of this apply function on these inputs, got another with the "
            "same shapes of leaves; derive it from them"
        )
    found = _activations.match(apply_fn, symmetry, params_a, params_b, stream, first["inputs"])
    return _matching(symmetry, found, params_a, params_b)


@host.only
def match_many(
    symmetry: Symmetry, models: Sequence[Params], *, key: Any = None, max_rounds: int = 20
) -> tuple[Matching, ...]:
    """Matchings that align many models with the first.

    Each but the first is in turn matched by weights to the current mean of all others, until a
    round changes nothing, so that the models are also aligned with each other.

    Args:
      symmetry: of the models.
      models: at least two pytrees of one structure; the first stays.
      key: for the order of the groups; None takes key 0.
      max_rounds: at most so many rounds.

    Returns:
      A `Matching` a model, to the first; the first's is the identity.

    Cost: up to `max_rounds` times `weight_matching` of all models but the first.

    References: Ainsworth, Hayase, Srinivasa 2023, algorithm 3.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from tlx.analyses.landscape.permutations import alignment
    >>> def apply_fn(params, inputs):
    ...     return jax.nn.relu(inputs @ params["first"]) @ params["second"]
    >>> first, second = jnp.array([[1.0, -2.0, 3.0], [4.0, 5.0, -6.0]]), jnp.eye(3)
    >>> orders = [jnp.array(order) for order in ([0, 1, 2], [2, 0, 1], [1, 0, 2])]
    >>> models = [{"first": first[:, order], "second": second[order]} for order in orders]
    >>> symmetry = alignment.symmetry(apply_fn, models[0], jnp.ones((2, 2)))
    >>> [float(found.distance_after) for found in alignment.match_many(symmetry, models)]
    [0.0, 0.0, 0.0]
    """
    if len(models) < 2:
        raise ValueError(f"expected at least two models, got {len(models)}")
    for i, other in enumerate(models[1:], 1):
        tree.same_structure(models[0], other, ("models[0]", f"models[{i}]"))
    orders = [_permutation.orders(symmetry) for _ in models]
    models = [jax.tree.map(_on_host, model) for model in models]
    placed = list(models)
    for turn in range(max_rounds):
        changed = False
        for i in range(1, len(models)):
            # at first only those already matched: the mean of others is meaningless
            others = _mean([p for j, p in enumerate(placed) if j < i or (turn and j > i)])
            own = jax.random.fold_in(_key(key), turn * len(models) + i)
            found = weight_matching(symmetry, others, models[i], key=own)
            present = _distance(*(_assignment.counted(symmetry, p) for p in (others, placed[i])))
            if not turn or float(found.distance_after) < (1 - 1e-6) * present:
                orders[i], changed = found.permutations, True
                placed[i] = _permutation.permuted(symmetry, orders[i], models[i])
        if not changed:
            break
    return tuple(
        _matching(symmetry, order, models[0], model)
        for order, model in zip(orders, models, strict=True)
    )


def _key(key: Any) -> Any:
    return jax.random.key(0) if key is None else key


def _unit_scale(weights: _assignment.Weights) -> tuple[_assignment.Weights, int]:
    """Weights over the power of two at the largest, and its exponent: products stay in range."""
    largest = max((float(np.abs(x).max(initial=0)) for x in weights.values()), default=0.0)
    exponent = int(np.frexp(largest)[1])
    return {name: np.asarray(np.ldexp(x, -exponent)) for name, x in weights.items()}, exponent


def _on_host(leaf: Any) -> Any:
    return np.asarray(jax.device_get(leaf)) if tree.is_inexact(leaf) else leaf


def _mean(models: Sequence[Params]) -> Params:
    def leaf(*values: Any) -> Any:
        if not tree.is_inexact(values[0]):
            return values[0]
        mean = np.mean([np.asarray(x, np.float64) for x in values], 0)
        return mean.astype(values[0].dtype)

    return jax.tree.map(leaf, *models)


def _matching(symmetry: Symmetry, found: Permutations, a: Params, b: Params) -> Matching:
    weights = _assignment.counted(symmetry, b)
    placed = {
        name: _permutation.permute_leaf(symmetry, found, symmetry.leaves[name], value)
        for name, value in weights.items()
    }
    of_a = _assignment.counted(symmetry, a)
    before, after = (jnp.float32(_distance(of_a, other)) for other in (weights, placed))
    return Matching(found, before, after)


def _distance(a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray]) -> float:
    return math.sqrt(
        sum(float(np.sum(np.subtract(a[name], b[name], dtype=float) ** 2)) for name in a)
    )
