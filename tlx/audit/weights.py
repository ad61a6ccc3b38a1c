"""What the weights of two models alone show: which modules changed, how much, and in which way."""

import re
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import jax
import numpy as np

from tlx.analyses.parameters import change as changes
from tlx.audit.models import Model
from tlx.core import labels as labels_lib
from tlx.core import tree
from tlx.core.types import Labels

Kind = Literal[
    "unchanged", "scaled", "reordered", "unrelated", "low_rank", "noise", "tuned", "undefined"
]

STATISTICS = re.compile(r"(^|/)(batch_stats|state)/|running_(mean|var)|num_batches|moving_")
"""Names of leaves that training does not move, but the data."""

SAME = 0.9995
"""Cosine from which on a matrix is another one times a number."""

SHARE = 1 - 1e-6
"""Of the squared norm of a change: how many directions hold it is its rank, up to rounding."""

WHOLE = 0.8
"""Share of the matrices that changed from which on all are said to have changed in one way."""

LEAST_RANK = 8
"""Matrices with a smaller side are too small for a change of low rank, or noise, to be told."""

LEAST_NOISY = 3
"""Matrices of which it takes so many to say that a change is noise."""

ORDER = 1e-5
"""Units in another order have the same singular values, up to rounding; other matrices do not."""

NOISE = 0.7
"""Of the stable rank of noise: from this share on, a change of full rank is like it."""


class Pair(NamedTuple):
    """Two models x and y, or a model and its parent: what of y is as in x.

    Attributes:
      modules: M labels.
      kinds: of each module what its matrices show.
      relative: float64 [M], ‖y − x‖ / ‖x‖ of the matrices; of a module without any, of all but
        running statistics.
      cosine: float64 [M], of the two, likewise.
      layers: `change.Change` of the matrices.
      layer_kinds: of each matrix.
      layer_modules: the module of each matrix.
      body_cosine: float, the mean cosine of the matrices outside the head (the scales of norms
        are alike in all nets); NaN without any.
    """

    modules: tuple[str, ...]
    kinds: tuple[Kind, ...]
    relative: np.ndarray
    cosine: np.ndarray
    layers: changes.Change
    layer_kinds: tuple[Kind, ...]
    layer_modules: tuple[str, ...]
    body_cosine: float

    @property
    def of_kind(self) -> dict[Kind, list[str]]:
        """The modules of each kind."""
        found: dict[Kind, list[str]] = {}
        for name, kind in zip(self.modules, self.kinds, strict=True):
            found.setdefault(kind, []).append(name)
        return found


def compare(x: Model, y: Model, labels: Labels, modules: tuple[str, ...]) -> Pair:
    """What of a model y is as in a model x, module by module.

    Args:
      x: the one to compare with, such as the parent.
      y: of the same architecture, up to the head.
      labels: the module of each leaf of x.
      modules: labels in the order of the result; a head of another shape is left out.

    Returns:
      `Pair`.
    """
    compared = [name for name in modules if _same_shapes(x, y, labels, name)]
    _require_floating(x, y, labels, compared)
    of_x, of_y = (_chosen(model, labels, compared) for model in (x, y))
    label_of = dict(zip(tree.names(x.params), jax.tree.leaves(labels), strict=True))
    layers = changes.of_layers(of_x, of_y, layout=x.layout, share=SHARE)
    of_layer = tuple(label_of[name] for name in layers.layers)
    layer_kinds = _each([_kind(layers, i) for i in range(len(layers.layers))], layers)
    kinds, sums = [], []
    for module in compared:
        names = [name for name in of_x if label_of[name] == module]
        same = all(np.array_equal(of_x[name], of_y[name], equal_nan=True) for name in names)
        at = [i for i, of in enumerate(of_layer) if of == module]
        kinds.append(_of_module(same, [layer_kinds[i] for i in at]))
        weights = [n for n in names if not STATISTICS.search(n)]
        matrices = [n for n in weights if np.ndim(of_x[n]) > 1]
        sums.append(_sums(of_x, of_y, matrices or weights))  # scales of norms are large, and stay
    apart, norms, others, products = np.array(sums).reshape(-1, 4).T
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = np.sqrt(apart / norms)
        cosine = np.clip(products / np.sqrt(norms * others), -1, 1)
    body = [i for i, of in enumerate(of_layer) if of != x.head and np.isfinite(layers.cosine[i])]
    return Pair(
        modules=tuple(compared),
        kinds=tuple(kinds),
        relative=np.where(apart == 0, 0, relative),
        cosine=cosine,
        layers=layers,
        layer_kinds=layer_kinds,
        layer_modules=of_layer,
        body_cosine=float(np.mean(layers.cosine[body])) if body else float("nan"),
    )


def whole(layer_kinds: Sequence[Kind], layers: changes.Change) -> Kind | None:
    """The special way in which nearly all matrices changed that did and are large enough."""
    of_rank = zip(layer_kinds, layers.full_rank, strict=True)
    moved: list[Kind] = [k for k, rank in of_rank if k != "unchanged" and rank >= LEAST_RANK]
    # of a few matrices that look like noise, training is as likely a cause
    kinds: tuple[Kind, ...] = ("low_rank", *(("noise",) if len(moved) >= LEAST_NOISY else ()))
    return next((k for k in kinds if moved and moved.count(k) >= WHOLE * len(moved)), None)


def _each(kinds: list[Kind], layers: changes.Change) -> tuple[Kind, ...]:
    """The kinds; that single matrices look like noise says nothing."""
    if whole(kinds, layers) == "noise":
        return tuple(kinds)
    return tuple("tuned" if kind == "noise" else kind for kind in kinds)


def in_known_order(pair: Pair, reordered: Sequence[str]) -> Pair:
    """The pair, with modules whose units are known to be in another order said to be so.

    Of a parent and b, where b has a's units in another order: they look unrelated to the parent's.
    """
    kinds: list[Kind] = [
        "reordered" if module in reordered and kind == "unrelated" else kind
        for module, kind in zip(pair.modules, pair.kinds, strict=True)
    ]
    return pair._replace(kinds=tuple(kinds))


def _sums(x: dict[str, Any], y: dict[str, Any], names: list[str]) -> np.ndarray:
    """‖y − x‖², ‖x‖², ‖y‖² and ⟨x, y⟩ over some leaves, float64 [4]."""
    total = np.zeros(4)
    for name in names:
        one, other = (np.asarray(v[name]).astype(np.float64).ravel() for v in (x, y))
        apart = other - one
        total += [apart @ apart, one @ one, other @ other, one @ other]
    return total


def _chosen(model: Model, labels: Labels, modules: list[str]) -> dict[str, Any]:
    """The floating leaves of some modules, by name."""
    label_of = dict(zip(tree.names(model.params), jax.tree.leaves(labels), strict=True))
    leaves = tree.named_leaves(model.params)
    return {n: x for n, x in leaves.items() if label_of[n] in modules and tree.is_inexact(x)}


def _require_floating(x: Model, y: Model, labels: Labels, modules: list[str]) -> None:
    """Raises for matrices of integers that differ: those of indices are the same in both."""
    others = tree.named_leaves(y.params)
    pairs = zip(tree.named_leaves(x.params).items(), jax.tree.leaves(labels), strict=True)
    for (name, leaf), module in pairs:
        is_matrix = module in modules and np.ndim(leaf) > 1 and not tree.is_inexact(leaf)
        if is_matrix and not np.array_equal(leaf, others[name]):
            raise ValueError(
                f"expected weights as floating numbers, got {leaf.dtype} in {name}, and other "
                "numbers in the other model; quantised weights are to be multiplied by their "
                "scales first"
            )


def _same_shapes(x: Model, y: Model, labels: Labels, module: str) -> bool:
    found = []
    for model in (x, y):
        leaves = labels_lib.groups(model.params, labels)[module]
        found.append([np.shape(leaf) for leaf in leaves])
    return found[0] == found[1]


def _kind(layers: changes.Change, i: int) -> Kind:
    """What one matrix shows."""
    relative, cosine, scale = layers.relative[i], layers.cosine[i], layers.scale[i]
    if relative == 0:
        return "unchanged"
    if not np.isfinite([relative, cosine, scale]).all():
        return "undefined"
    if cosine > SAME and abs(scale - 1) > max(0.01, 2 * np.sqrt(1 - cosine**2)):
        return "scaled"
    if layers.spectra[i] < ORDER and cosine < 0.98:
        return "reordered"
    if abs(cosine) < max(4 * layers.chance[i], 0.05):
        return "unrelated"
    if layers.full_rank[i] >= LEAST_RANK:
        if layers.rank[i] <= layers.full_rank[i] / 4:
            return "low_rank"
        noisy = layers.summaries.stable_rank[i] / layers.as_noise[i]
        if noisy > NOISE and layers.rank[i] > 0.7 * layers.full_rank[i]:
            return "noise"
    return "tuned"


def _of_module(is_equal: bool, kinds: list[Kind]) -> Kind:
    """What a module shows, by its matrices: the kind of most that changed."""
    if is_equal:
        return "unchanged"
    moved = [kind for kind in kinds if kind != "unchanged"]
    if not moved:
        return "tuned"  # biases or norms alone
    most = max(dict.fromkeys(moved), key=moved.count)
    return most if moved.count(most) > len(moved) / 2 else "tuned"
