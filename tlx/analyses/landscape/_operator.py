"""Symmetric matrices given by their products with vectors."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from tlx.analyses.landscape import _mean_loss
from tlx.core import shown, tree
from tlx.core.types import Batch, Params


@shown.short
class Operator(NamedTuple):
    """A symmetric matrix given by its products.

    Attributes:
      product: float [P] to float [P], the matrix times a vector.
      size: P, the number of rows.
      dtype: of the vectors, float32 or wider.
      ravel: a direction, a pytree like the parameters, to the vector of its chosen leaves.
      unravel: a vector to such a direction, of the parameters' dtypes, zero elsewhere.
    """

    product: Callable[[Any], Float[Array, " P"]]
    size: int
    dtype: Any
    ravel: Callable[[Params], Float[Array, " P"]]
    unravel: Callable[[Any], Params]


def unresolved(operator: Operator) -> float:
    """The magnitude below which products have lost bits: terms may have underflowed."""
    limits = jnp.finfo(operator.dtype)
    return float(limits.tiny) / float(limits.eps)


def make(part: Callable[..., Any], mean_loss: _mean_loss.MeanLoss) -> Operator:
    """The operator of a part, a function that returns a batch's sum of products."""
    size = mean_loss.size

    def product(vector: Any) -> Float[Array, " P"]:
        if np.shape(vector) != (size,):
            raise ValueError(f"expected a vector of shape ({size},), got {np.shape(vector)}")
        return mean_loss.joined(mean_loss.mean(part, mean_loss.leaves, mean_loss.cut(vector)))

    return Operator(product, size, mean_loss.dtype, mean_loss.ravel, mean_loss.unravel)


def hessian_part(
    static: _mean_loss.Static, params: Params, batch: Batch, at: list[Array], vector: list[Array]
) -> list[Array]:
    """The Hessian of a batch's sum of losses times a vector: forward over reverse."""

    def value_and_gradient(w: list[Array]) -> tuple[Array, list[Array]]:
        return jax.value_and_grad(_mean_loss.value, argnums=3)(static, params, batch, w)

    (value, _), (_, product) = jax.jvp(value_and_gradient, (at,), (vector,))
    return _defined(static, value, product)


def gauss_newton_part(
    static: _mean_loss.Static, params: Params, batch: Batch, at: list[Array], vector: list[Array]
) -> list[Array]:
    """Jᵀ·H·J of a batch times a vector; the linearised net is transposed for Jᵀ."""

    def forward(w: list[Array]) -> tuple[list[Array], Any]:
        outputs = static.apply_fn(_mean_loss.write(static.chosen, params, w), batch["inputs"])
        return floating(outputs), outputs

    _, push, outputs = jax.linearize(forward, at, has_aux=True)
    pull = jax.linear_transpose(push, at)

    value, curved = output_product(static, outputs, batch, push(vector))
    return _defined(static, value, pull(curved)[0])


def output_product(
    static: _mean_loss.Static, outputs: Any, batch: Batch, vector: list[Array]
) -> tuple[Array, list[Array]]:
    """The sum of losses, and its second derivatives in the outputs times a vector."""

    def value_and_slope(moving: list[Array]) -> tuple[Array, list[Array]]:
        def value(moving: list[Array]) -> Array:
            return _mean_loss.sum_of_losses(static, _replaced(outputs, moving), batch)

        return jax.value_and_grad(value)(moving)

    (value, _), (_, curved) = jax.jvp(value_and_slope, (floating(outputs),), (vector,))
    return value, curved


def floating(outputs: Any) -> list[Array]:
    """The leaves that have a derivative, not integers such as a class."""
    return [leaf for leaf in jax.tree.leaves(outputs) if tree.is_inexact(leaf)]


def _replaced(outputs: Any, moving: list[Array]) -> Any:
    """The outputs with these in place of their floating leaves."""
    new = iter(moving)
    return jax.tree.map(lambda leaf: next(new) if tree.is_inexact(leaf) else leaf, outputs)


def _defined(static: _mean_loss.Static, value: Array, product: list[Array]) -> list[Array]:
    """The product, NaN where the loss is NaN (its derivatives may be zero there)."""
    product = [jnp.where(jnp.isnan(value), jnp.nan, leaf) for leaf in product]
    return _mean_loss.placed(static, product)
