"""SGD, AdamW and LAMB, with a learning rate for each label, built from optax.

Hyper-parameters are arguments of `update`, so that runs which differ only in them share
compiled code; what shapes the computation (rules, Nesterov, clipping or not) is static.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from tlx.core import labels as core_labels
from tlx.core import tree
from tlx.core.types import Labels, Params
from tlx.train.spec import OptimSpec

KERNEL_NAMES = ("kernel", "embedding")


@dataclasses.dataclass(frozen=True)
class Static:
    """The part of an `OptimSpec` that determines the compiled code."""

    name: str
    nesterov: bool
    kernels_only: bool
    rules: tuple[tuple[str, float], ...]
    pulled: bool
    clipped: bool
    freeze: tuple[str, ...] = ()


class Hyper(NamedTuple):
    """The part of an `OptimSpec` that is data: float32 scalars."""

    momentum: Any
    weight_decay: Any
    l2_to_init: Any
    grad_clip: Any
    beta2: Any
    epsilon: Any


class PullState(NamedTuple):
    """The weights that the penalty pulls towards."""

    initial: Params


def static_of(spec: OptimSpec) -> Static:
    """The part of the spec that determines the compiled code."""
    return Static(
        name=spec.name,
        nesterov=spec.nesterov,
        kernels_only=spec.weight_decay_on == "kernels",
        rules=tuple((pattern, float(multiplier)) for pattern, multiplier in spec.rules),
        pulled=spec.l2_to_init > 0,
        clipped=spec.grad_clip is not None,
        freeze=spec.freeze,
    )


def hyper_of(spec: OptimSpec) -> Hyper:
    """The numbers of the spec as float32 scalars; an unused `grad_clip` is infinite."""
    clip = float("inf") if spec.grad_clip is None else spec.grad_clip
    numbers = (spec.momentum, spec.weight_decay, spec.l2_to_init, clip, spec.beta2, spec.epsilon)
    return Hyper(*map(jnp.float32, numbers))


def make_labels(rules: tuple[tuple[str, float], ...], params: Params) -> Labels:
    """Each leaf's rate multiplier, written as a label ("0.1", "1.0").

    Args:
      rules: pairs (regular expression, multiplier), as in `OptimSpec`.
      params: the tree under "params"; names are matched with that prefix ("params/head/bias").

    Returns:
      A pytree of str with the structure of `params`; "1.0" where no rule matches.

    Raises:
      ValueError: naming every leaf that rules with different multipliers match, and every
        rule that matches nothing.
    """
    named = [(pattern, str(float(multiplier))) for pattern, multiplier in rules]
    return core_labels.from_rules({"params": params}, named, default="1.0")["params"]


def split(variables: Params, freeze: tuple[str, ...]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The modules that are trained, and those that are frozen.

    Args:
      variables: mapping of modules, as the tree under "params" or "batch_stats".
      freeze: the names of frozen modules; absent ones are ignored.

    Returns:
      Two dicts of modules; together they are `variables`.
    """
    trained = {name: part for name, part in variables.items() if name not in freeze}
    return trained, {name: part for name, part in variables.items() if name in freeze}


def trained_optimizer(static: Static, params: Params) -> optax.GradientTransformationExtraArgs:
    """The optimiser of the modules that are trained, the first of `split`.

    Args:
      static: of the optimiser.
      params: of all modules, since rules are checked against all leaves.

    Raises:
      ValueError: as `make_labels`.
    """
    labels = make_labels(static.rules, params)
    return make_optimizer(static, split(labels, static.freeze)[0])


def make_optimizer(
    spec: OptimSpec | Static, labels: Labels
) -> optax.GradientTransformationExtraArgs:
    """The optimiser of a spec.

    Args:
      spec: an `OptimSpec`, or its static part; then every `update` needs `hyper`.
      labels: from `make_labels`: multipliers of the rate as str; "0.0" freezes a leaf.

    Returns:
      `init(params)` and `update(grads, state, params, *, learning_rate, hyper=…)`, with
      `learning_rate` a float32 scalar and `hyper` a `Hyper` (by default the spec's). The
      updates are added to the weights (`optax.apply_updates`). Order: frozen gradients are
      zeroed, then clipping by global norm; of "sgd" decay, pull to the initial weights, momentum,
      of the others their averages, decay, pull, the ratio of norms; the rate. The state holds the
      averages, and the initial weights if there is a pull.

    Numerics: equal to PyTorch's SGD up to rounding of the last bit; AdamW and LAMB equal their
      formulas in float64 to 1e-5.
    """
    static = spec if isinstance(spec, Static) else static_of(spec)
    pieces = [_freeze(labels)]
    if static.clipped:
        pieces.append(_clip())
    away = [_decay(static.kernels_only), *([_pull()] if static.pulled else [])]
    if static.name == "sgd":
        pieces += [*away, _momentum(static.nesterov)]
    else:
        pieces += [_adam(), *away, *([_trust()] if static.name == "lamb" else [])]
    chain = optax.chain(*pieces, _rates(labels))
    if isinstance(spec, Static):
        return chain
    hyper = hyper_of(spec)

    def update(grads: Params, state: Any, params: Params | None = None, **extra: Any) -> Any:
        return chain.update(grads, state, params, **({"hyper": hyper} | extra))

    return optax.GradientTransformationExtraArgs(chain.init, update)


def _stateless(fn: Any) -> optax.GradientTransformationExtraArgs:
    """A piece without state from `fn(updates, params, extra) -> updates`."""

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> Any:
        if params is None:
            raise ValueError("expected update(grads, state, params, …), got no params")
        return fn(updates, params, extra), state

    return optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)


def _freeze(labels: Labels) -> optax.GradientTransformationExtraArgs:
    def keep(update: Any, label: str) -> Any:
        return update if float(label) else jnp.zeros_like(update)

    return _stateless(lambda updates, params, extra: jax.tree.map(keep, updates, labels))


def _clip() -> optax.GradientTransformationExtraArgs:
    # norms are of shares of the largest number, since squares overflow where numbers do not
    def clip(updates: Any, params: Any, extra: Any) -> Any:
        limit = extra["hyper"].grad_clip
        wide = jax.tree.map(lambda g: g.astype(jnp.float32), updates)
        highest = [jnp.max(jnp.abs(g), initial=0.0) for g in jax.tree.leaves(wide)]
        largest = jnp.max(jnp.stack(highest), initial=jnp.finfo(jnp.float32).tiny)
        shares = jax.tree.map(lambda g: g / largest, wide)
        norm = jnp.maximum(optax.tree.norm(shares), 1.0)  # below it only of zeros
        is_within = largest * norm <= limit  # False for NaN, which all numbers become then

        def one(g: Any, share: Any) -> Any:
            return jnp.where(is_within, g, (share * (limit / norm)).astype(g.dtype))

        return jax.tree.map(one, updates, shares)

    return _stateless(clip)


def _decay(kernels_only: bool) -> optax.GradientTransformationExtraArgs:
    def decay(updates: Any, params: Any, extra: Any) -> Any:
        def one(name: str, update: Any) -> Any:
            if kernels_only and name.rsplit("/", 1)[-1] not in KERNEL_NAMES:
                return update
            weights = by_name[name]
            return update + extra["hyper"].weight_decay.astype(weights.dtype) * weights

        by_name = tree.named_leaves(params)
        return tree.map_named(one, updates)

    return _stateless(decay)


def _pull() -> optax.GradientTransformationExtraArgs:
    def init(params: Params) -> PullState:
        return PullState(jax.tree.map(jnp.copy, params))

    def update(updates: Any, state: PullState, params: Any = None, **extra: Any) -> Any:
        strength = extra["hyper"].l2_to_init
        pulled = jax.tree.map(
            lambda g, w, w0: g + strength.astype(w.dtype) * (w - w0),
            updates,
            params,
            state.initial,
        )
        return pulled, state

    return optax.GradientTransformationExtraArgs(init, update)


def _momentum(nesterov: bool) -> optax.GradientTransformationExtraArgs:
    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> Any:
        piece = optax.trace(extra["hyper"].momentum, nesterov=nesterov)
        return piece.update(updates, state, params)

    return optax.GradientTransformationExtraArgs(optax.trace(0.0).init, update)


class AdamState(NamedTuple):
    """The decaying averages of the gradient and of its square, and the number of updates."""

    count: Any
    mean: Params
    square: Params


def _adam() -> optax.GradientTransformationExtraArgs:
    # not optax.scale_by_adam, whose decays may not be arrays under strict promotion of dtypes
    def init(params: Params) -> AdamState:
        zeros = jax.tree.map(jnp.zeros_like, params)
        return AdamState(jnp.int32(0), zeros, jax.tree.map(jnp.copy, zeros))

    def update(updates: Any, state: AdamState, params: Any = None, **extra: Any) -> Any:
        beta1, beta2 = extra["hyper"].momentum, extra["hyper"].beta2
        count = state.count + 1
        times = count.astype(jnp.float32)

        def averaged(beta: Any, old: Params, new: Params) -> tuple[Params, Params]:
            kept = jax.tree.map(lambda x, y: _in(x, beta) * x + _in(x, 1 - beta) * y, old, new)
            return kept, jax.tree.map(lambda x: x / _in(x, 1 - beta**times), kept)

        mean, m = averaged(beta1, state.mean, updates)
        square, v = averaged(beta2, state.square, jax.tree.map(jnp.square, updates))
        epsilon = extra["hyper"].epsilon
        ratio = jax.tree.map(lambda x, y: x / (jnp.sqrt(y) + _in(y, epsilon)), m, v)
        return ratio, AdamState(count, mean, square)

    return optax.GradientTransformationExtraArgs(init, update)


def _in(leaf: Any, number: Any) -> Any:
    return number.astype(leaf.dtype)


def _trust() -> optax.GradientTransformationExtraArgs:
    piece = optax.scale_by_trust_ratio()
    return _stateless(
        lambda updates, params, extra: piece.update(updates, optax.EmptyState(), params)[0]
    )


def _rates(labels: Labels) -> optax.GradientTransformationExtraArgs:
    def rates(updates: Any, params: Any, extra: Any) -> Any:
        rate = jnp.asarray(extra["learning_rate"], jnp.float32)

        def one(update: Any, label: str) -> Any:
            if not float(label):
                return jnp.zeros_like(update)
            return -(rate * jnp.float32(label)).astype(update.dtype) * update

        return jax.tree.map(one, updates, labels)

    return _stateless(rates)
