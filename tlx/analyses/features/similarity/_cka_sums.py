"""The streaming CKA of all pairs of layers: a metric whose state is sums over batches."""

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Bool, Float, Int

from tlx.analyses.features.similarity import _features, _hsic
from tlx.analyses.features.similarity._features import Spatial
from tlx.analyses.features.similarity.kernels import Kernel
from tlx.core import scale, sharding
from tlx.core.metrics import mask_of
from tlx.core.types import Batch, Metric

KEY = "resampling key"
"""The name under which each row of a batch carries the words of the bootstrap's key."""

_HIGHEST = jax.lax.Precision.HIGHEST
# of the Poisson distribution with mean 1; the tail is below the resolution of a float32 uniform
_CUMULATIVE = np.cumsum([math.exp(-1) / math.factorial(k) for k in range(11)])


class Options(NamedTuple):
    """The options of the sums; hashable, so that metrics are cached.

    Attributes:
      kernel: the kernel between examples.
      spatial: how positions are treated.
      corrected: whether the norms corrected for sampled features are needed.
      num_resamples: of the bootstrap, R; 0 for none. Batches then carry a `KEY`.
      key_kind: the name of the kind of that key.
      mesh: where the parameters are; None: on one device.
    """

    kernel: Kernel
    spatial: Spatial
    corrected: bool = False
    num_resamples: int = 0
    key_kind: str = ""
    mesh: Mesh | None = None


class Resampled(NamedTuple):
    """⟨K~, L~⟩, ‖K~‖² and ‖L~‖² with the examples of R resamples."""

    xy: Float[Array, "R Lx Ly"]
    xx: Float[Array, "R Lx"]
    yy: Float[Array, "R Ly"]


class State(NamedTuple):
    """Sums over batches; those of a layer in units of 2^exponent for each of its Gram matrices."""

    xy: _hsic.Cross
    xx: _hsic.Norms
    yy: _hsic.Norms
    resampled: Resampled
    exponent_x: Int[Array, " Lx"]
    exponent_y: Int[Array, " Ly"]
    used: Int[Array, ""]
    left_out: Int[Array, ""]

    def scaled_to(self, exponent_x: Array, exponent_y: Array) -> "State":
        """The same sums in coarser units."""
        x = scale.power_of_two(self.exponent_x - exponent_x)
        y = scale.power_of_two(self.exponent_y - exponent_y)
        xy, xx, yy = jnp.outer(x, y), x * x, y * y
        cross = _hsic.Cross(*(part * xy for part in self.xy))
        return self._replace(
            xy=cross._replace(variance=cross.variance * xy),
            xx=_hsic.Norms(*(part * xx for part in self.xx)),
            yy=_hsic.Norms(*(part * yy for part in self.yy)),
            resampled=Resampled(
                *(r * f[None] for r, f in zip(self.resampled, (xy, xx, yy), strict=True))
            ),
            exponent_x=exponent_x,
            exponent_y=exponent_y,
        )


@functools.lru_cache(maxsize=64)
def metric(layers_x: tuple[str, ...], layers_y: tuple[str, ...] | None, options: Options) -> Metric:
    """The streaming CKA as a metric on outputs (features_x, features_y), two mappings.

    Args:
      layers_x: the layers to take of features_x.
      layers_y: the layers to take of features_y; None compares x with itself, and the
        outputs are then features_x alone.
      options: see `Options`.

    Returns:
      A metric; results are a dict: `debiased`, `biased`, `feature_corrected`, `chance`, `z`
      [Lx, Ly], `spread` (a dict: the standard deviations of the debiased and the corrected
      value over permutations), `resampled` [R, Lx, Ly] (debiased), `count`, `left_out`.
    """
    num_x, num_y = len(layers_x), len(layers_x if layers_y is None else layers_y)

    def init() -> State:
        def filled(*shape: int, fill: float = 0, dtype: Any = None) -> Any:
            return np.full(shape, fill, dtype or jnp.result_type(float))  # compiles nothing

        r = options.num_resamples
        return State(
            _hsic.Cross(*(filled(num_x, num_y) for _ in _hsic.Cross._fields)),
            _hsic.Norms(*(filled(num_x) for _ in _hsic.Norms._fields)),
            _hsic.Norms(*(filled(num_y) for _ in _hsic.Norms._fields)),
            Resampled(filled(r, num_x, num_y), filled(r, num_x), filled(r, num_y)),
            filled(num_x, fill=scale.NO_SCALE, dtype=np.int32),
            filled(num_y, fill=scale.NO_SCALE, dtype=np.int32),
            used=filled(dtype=np.int32),
            left_out=filled(dtype=np.int32),
        )

    def update(state: State, outputs: Any, batch: Batch) -> State:
        first = outputs if layers_y is None else outputs[0]
        x = [jnp.asarray(first[name]) for name in layers_x]
        y = None if layers_y is None else [jnp.asarray(outputs[1][name]) for name in layers_y]
        return merge(state, _of_batch(x, y, batch, options))

    def merge(s: State, t: State) -> State:
        x, y = jnp.maximum(s.exponent_x, t.exponent_x), jnp.maximum(s.exponent_y, t.exponent_y)
        total = jax.tree.map(jnp.add, s.scaled_to(x, y), t.scaled_to(x, y))
        return total._replace(exponent_x=x, exponent_y=y)

    return Metric(init, update, merge, _compute)


@jax.jit
def _compute(state: State) -> dict[str, Any]:
    values = {
        name: _hsic.ratio(state.xy, state.xx, state.yy, name)
        for name in ("debiased", "biased", "feature_corrected")
    }

    def resampled(xy: Array, xx: Array, yy: Array) -> Array:
        cross = state.xy._replace(debiased=xy)
        norms = state.xx._replace(debiased=xx), state.yy._replace(debiased=yy)
        return _hsic.ratio(cross, *norms, "debiased")

    deviation = jnp.sqrt(state.xy.variance)
    by_chance = state.xy._replace(debiased=deviation)
    chance = state.xy._replace(biased=state.xy.chance)
    defined = ~jnp.isnan(values["debiased"])
    z = state.xy.debiased / jnp.where(deviation == 0, 1, deviation)
    return values | {
        "chance": _hsic.ratio(chance, state.xx, state.yy, "biased"),
        "spread": {
            name: _hsic.ratio(by_chance, state.xx, state.yy, name)
            for name in ("debiased", "feature_corrected")
        },
        "z": jnp.where(defined & (deviation > 0), z, jnp.nan),
        "resampled": jax.vmap(resampled)(*state.resampled),
        "count": state.used,
        "left_out": state.left_out,
    }


def _of_batch(x: list[Array], y: list[Array] | None, batch: Batch, options: Options) -> State:
    """The state after one batch; only `left_out` changes for a batch of too few examples."""
    mask = mask_of(batch)
    rows_x = [_features.arrange(features, mask, options.spatial) for features in x]
    rows_y = None
    if y is not None:
        rows_y = [_features.arrange(features, mask, options.spatial) for features in y]
    counts = _counts(batch, mask, options)
    lengths = {len(rows) for rows, _ in [*rows_x, *(rows_y or [])]}
    if len(lengths) == 1:
        state = _of_rows(rows_x, rows_y, counts, options)
    else:
        state = _by_length(rows_x, rows_x if rows_y is None else rows_y, options)
    count = jnp.sum(mask, dtype=jnp.int32)
    enough = count >= _hsic.LEAST_ROWS
    state = jax.tree.map(lambda part: jnp.where(enough, part, 0), state)
    used = jnp.where(enough, count, 0)
    return state._replace(
        exponent_x=jnp.where(enough, state.exponent_x, scale.NO_SCALE),
        exponent_y=jnp.where(enough, state.exponent_y, scale.NO_SCALE),
        used=used,
        left_out=count - used,
    )


_Layer = tuple[Float[Array, "R D"], Bool[Array, " R"]]


def _of_rows(
    x: Sequence[_Layer], y: Sequence[_Layer] | None, counts: Array, options: Options
) -> State:
    """The sums of layers with equally many rows; y None is x."""
    form = _hsic.rows_of if _by_features(x, y or x, options) else _hsic.grams

    def side(layers: Sequence[_Layer]) -> _hsic.Grams | _hsic.Rows:
        matrices = [rows for rows, _ in layers]
        if form is _hsic.grams:
            matrices = [_by_columns(rows, options.mesh) for rows in matrices]
        return form(options.kernel, matrices, layers[0][1], options.corrected)

    own = side(x)
    other = own if y is None else side(y)
    zero = jnp.zeros((), jnp.int32)
    return State(
        _hsic.cross(own, other),
        _hsic.norms(own),
        _hsic.norms(other),
        _resampled(own, other, counts),
        own.exponent,
        other.exponent,
        used=zero,
        left_out=zero,
    )


def _by_columns(rows: Array, mesh: Mesh | None) -> Array:
    """Features that are split by row, split by column, where the devices divide both.

    For its Gram matrix a device then receives its share of the columns and a sum of B·B numbers;
    with rows of its own it would receive all features of all layers.
    """
    parts = 1 if mesh is None else sharding.row_parts(mesh)
    if mesh is None or parts == 1 or any(size % parts for size in rows.shape):
        return rows
    axes = sharding.row_axes(mesh)
    rows = sharding.constrain(rows, mesh, PartitionSpec(axes))  # else XLA gathers them to cut them
    return sharding.constrain(rows, mesh, PartitionSpec(None, axes))


def _by_length(x: Sequence[_Layer], y: Sequence[_Layer], options: Options) -> State:
    """The sums where only some pairs have rows that correspond; NaN for the others."""
    dtype = jnp.result_type(float)
    num_x, num_y = len(x), len(y)
    undefined = jnp.full((num_x, num_y), jnp.nan, dtype)
    none = jnp.zeros((0, num_x, num_y), dtype)
    zero = jnp.zeros((), jnp.int32)
    total = State(
        _hsic.Cross(*(undefined for _ in _hsic.Cross._fields)),
        _hsic.Norms(*(jnp.zeros(num_x, dtype) for _ in _hsic.Norms._fields)),
        _hsic.Norms(*(jnp.zeros(num_y, dtype) for _ in _hsic.Norms._fields)),
        Resampled(none, none[:, :, 0], none[:, 0]),
        jnp.full(num_x, scale.NO_SCALE, jnp.int32),
        jnp.full(num_y, scale.NO_SCALE, jnp.int32),
        used=zero,
        left_out=zero,
    )
    for length in sorted({len(rows) for rows, _ in x} & {len(rows) for rows, _ in y}):
        i, j = (
            np.array([k for k, (rows, _) in enumerate(side) if len(rows) == length])
            for side in (x, y)
        )
        part = _of_rows([x[k] for k in i], [y[k] for k in j], jnp.zeros((length, 0)), options)
        both = np.ix_(i, j)
        total = total._replace(
            xy=jax.tree.map(lambda t, p, at=both: t.at[at].set(p), total.xy, part.xy),
            xx=jax.tree.map(lambda t, p, at=i: t.at[at].set(p), total.xx, part.xx),
            yy=jax.tree.map(lambda t, p, at=j: t.at[at].set(p), total.yy, part.yy),
            exponent_x=total.exponent_x.at[i].set(part.exponent_x),
            exponent_y=total.exponent_y.at[j].set(part.exponent_y),
        )
    return total


def _by_features(x: Sequence[_Layer], y: Sequence[_Layer], options: Options) -> bool:
    """Whether products of features are cheaper than those of examples, and as accurate.

    The debiased form subtracts about a share D/n of ‖Z_xᵀ Z_y‖²: so no more features than rows.
    """
    rows = len(x[0][0])
    dims_x, dims_y = ([matrix.shape[1] for matrix, _ in side] for side in (x, y))
    if options.kernel.rows is None or options.num_resamples or max(dims_x + dims_y) > rows:
        return False
    of_features = rows * (sum(dims_x) * sum(dims_y) + sum(d * d for d in dims_x + dims_y))
    return of_features < rows * rows * (sum(dims_x) + sum(dims_y) + len(x) * len(y))


def _counts(batch: Batch, mask: Array, options: Options) -> Float[Array, "B R"]:
    """How often each example is drawn in each resample: Poisson numbers with mean 1.

    They depend on the key and the example's index alone, not on the batching.
    """
    if not options.num_resamples:
        return jnp.zeros((len(mask), 0))
    if "index" not in batch:
        raise ValueError(
            "expected batches with 'index' int32 [B], the number of each example, for the "
            f"bootstrap, got the keys {sorted(batch)}; tlx.core.streams.from_arrays adds it"
        )
    key = jax.random.wrap_key_data(jnp.asarray(batch[KEY])[0], impl=options.key_kind)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.asarray(batch["index"]))
    uniform = jax.vmap(lambda k: jax.random.uniform(k, (options.num_resamples,)))(keys)
    return jnp.searchsorted(jnp.asarray(_CUMULATIVE, uniform.dtype), uniform).astype(uniform.dtype)


def _resampled(x: _hsic.Grams | _hsic.Rows, y: _hsic.Grams | _hsic.Rows, counts: Array) -> Any:
    """The debiased products with Kᵢⱼ counted as often as i and j together are drawn.

    Two copies of one example do not form a pair: a resample has no distances of zero that the data
    do not have.
    """
    num_x, num_y, num = len(x.exponent), len(y.exponent), counts.shape[1]
    if not num:
        zeros = jnp.zeros((0, num_x, num_y), x.diagonal.dtype)
        return Resampled(zeros, zeros[:, :, 0], zeros[:, 0])
    assert isinstance(x, _hsic.Grams)
    assert isinstance(y, _hsic.Grams)
    off_x, off_y = (side.off.reshape(-1, len(counts), len(counts)) for side in (x, y))
    counts = counts.astype(off_x.dtype)

    def forms(matrices: Array) -> Array:  # cᵀ M c [L, R], for the counts c of each resample
        return (jnp.matmul(matrices, counts, precision=_HIGHEST) * counts[None]).sum(1)

    # a layer of x at a time: its products with all of y are as large as the Gram matrices
    xy = jax.lax.map(lambda off: forms(off[None] * off_y), off_x)
    return Resampled(
        jnp.moveaxis(xy, -1, 0), forms(jnp.square(off_x)).T, forms(jnp.square(off_y)).T
    )
