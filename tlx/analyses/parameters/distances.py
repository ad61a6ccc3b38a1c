"""How far apart the weights of two models are, module by module.

Models fine-tuned from the same weights stay close to each other and to these; models trained
from scratch do not.

References: B. Neyshabur, H. Sedghi, C. Zhang, What is being transferred in transfer learning?,
2020, table 2.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from tlx.analyses.parameters._inner import in_float64, in_one_unit, inner
from tlx.core import checks, host, public, shown, tree, undefined
from tlx.core import labels as labels_lib
from tlx.core.scale import times_power
from tlx.core.types import Labels, Params

__dir__ = public.names(__name__)


@shown.short
class Distances(NamedTuple):
    """The distances between two models a and b, by module (M of them) and in total.

    Attributes:
      modules: the M labels, in the order of the other fields.
      l2: float [M], ‖a − b‖, the Euclidean norm over all parameters of the module.
      relative: float [M], 2‖a − b‖ / (‖a‖ + ‖b‖), 0 … 2; NaN where both are zero.
      cosine: float [M], ⟨a, b⟩ / (‖a‖‖b‖), −1 … 1; NaN where either is zero.
      sum_of_tensor_norms: float [M], the sum of ‖a − b‖ of the module's tensors one by one;
        at least `l2`, and larger the more tensors there are.
      total_l2: float scalar, over all modules as one vector: the root of Σ l2².
      total_relative: float scalar, likewise.
      total_cosine: float scalar, likewise.
      total_sum_of_tensor_norms: float scalar, the sum over the modules.
    """

    modules: tuple[str, ...]
    l2: Float[Array, " M"]
    relative: Float[Array, " M"]
    cosine: Float[Array, " M"]
    sum_of_tensor_norms: Float[Array, " M"]
    total_l2: Float[Array, ""]
    total_relative: Float[Array, ""]
    total_cosine: Float[Array, ""]
    total_sum_of_tensor_norms: Float[Array, ""]


@undefined.allowed
def by_module(
    params_a: Params, params_b: Params, labels: Labels, *, modules: Sequence[str] | None = None
) -> Distances:
    """The distances between two models by module and in total.

    The paper's table gives one number for "the entire network" without saying which; both
    readings are here (`total_l2`, `total_sum_of_tensor_norms`).

    Args:
      params_a: pytree of arrays. Floating leaves count, batch statistics included where they
        are labelled, of complex ones the real and imaginary parts; leaves that are not floating
        (counters) are passed over, and so is an infinity or NaN that both models hold.
      params_b: pytree of the same structure.
      labels: pytree of str of the same structure: the module of each leaf.
      modules: which modules to compare, in the order of the result; None takes all, in the
        order of their first leaf. Modules that are left out may differ in shape, so that a
        model can be compared with its pretrained weights except for the head.

    Returns:
      `Distances`; exchanging the models changes nothing. The l2 is infinite where a number is
      infinite in one model, and NaN where it is NaN in one.

    Raises:
      ValueError: at call, if the compared parameters differ in structure, shape or dtype
        (every leaf named), if `labels` has another structure, or for an unknown module.

    Numerics: differences and sums over a tensor in float32 or more, other sums in float64, at any
      scale of the weights; relative error about 1e-6. While tracing all sums are in the dtype of
      the leaves, and what is below 1e-19 of the largest weight counts as zero in float32. The
      derivative of a distance is 0 where nothing is apart.
    Cost: one read of both models.

    >>> import jax.numpy as jnp
    >>> from tlx.analyses import parameters
    >>> from tlx.core import labels
    >>> a = {"body": jnp.array([3.0, 0.0]), "head": jnp.array([1.0, 1.0])}
    >>> b = {"body": jnp.array([0.0, 4.0]), "head": jnp.array([1.0, 1.0])}
    >>> found = parameters.distances.by_module(a, b, labels.from_names(a, str))
    >>> found.modules, found.l2.tolist(), found.cosine.round(3).tolist()
    (('body', 'head'), [5.0, 0.0], [0.0, 1.0])
    """
    known = labels_lib.unique(labels)
    for name in modules or ():
        if name not in known:
            raise ValueError(checks.unknown("module", name, known))
    chosen = tuple(dict.fromkeys(known if modules is None else modules))
    if modules is None:
        tree.same_structure(params_a, params_b)
    params_a = labels_lib.select(params_a, labels, chosen)
    params_b = labels_lib.select(params_b, labels, chosen)
    tree.same_structure(params_a, params_b)
    kept = [label for label in jax.tree.leaves(labels) if label in chosen]
    member = np.array([[label == name for label in kept] for name in chosen], bool)
    member = member.reshape(len(chosen), len(kept))  # two axes, were there no modules
    sums = _sums(params_a, params_b)
    if host.is_traced(sums):
        of_leaf, unit = in_one_unit(sums)
        found = _by_module(jnp, of_leaf, member)
        found = [times_power(x, unit) if i % 4 in (0, 3) else x for i, x in enumerate(found)]
    else:
        found = _by_module(np, in_float64(sums), member)
    return Distances(chosen, *map(undefined.array, found))


@jax.jit
def _sums(params_a: Params, params_b: Params) -> Float[Array, "leaves 4 2"]:
    """`inner` of each tensor: ‖a − b‖², ⟨a, b⟩, ‖a‖², ‖b‖²."""
    dtype = jnp.result_type(float)
    rows = [jnp.zeros((0, 4, 2), dtype)]
    for a, b in zip(jax.tree.leaves(params_a), jax.tree.leaves(params_b), strict=True):
        found = [jnp.zeros(2, dtype)] * 4
        if tree.is_inexact(a):
            a, b = tree.moving(a, b)
            d, a, b = map(tree.unit_scale, (a - b, a, b))
            found = [inner(*pair) for pair in ((d, d), (a, b), (a, a), (b, b))]
        rows.append(jnp.stack(found).astype(dtype)[None])
    return jnp.concatenate(rows)


def _by_module(xp: Any, of_leaf: Any, member: np.ndarray) -> list[Any]:
    """The fields of `Distances` from the leaves' sums [leaves, 4], by numpy or jax.numpy (`xp`)."""
    with np.errstate(invalid="ignore"):  # infinite by infinite is NaN, and so is 0 times infinite
        of_module = xp.where(member[:, :, None], of_leaf[None], 0).sum(1)
        apart = xp.where(member, _root(xp, of_leaf[:, 0])[None], 0).sum(1)
        return [*_compare(xp, of_module), apart, *_compare(xp, of_module.sum(0)), apart.sum()]


def _compare(xp: Any, sums: Any) -> tuple[Any, Any, Any]:
    """l2, relative and cosine from [..., 4] sums."""
    l2, a, b = (_root(xp, sums[..., i]) for i in (0, 2, 3))
    return l2, _ratio(xp, 2 * l2, a + b), _ratio(xp, sums[..., 1], a * b)


def _root(xp: Any, x: Any) -> Any:
    """The square root, with derivative 0 at 0."""
    return xp.where(x > 0, xp.sqrt(xp.where(x > 0, x, 1)), x)


def _ratio(xp: Any, x: Any, y: Any) -> Any:
    return xp.where(y == 0, np.nan, x / xp.where(y == 0, 1, y))
