"""Programs of tlx for models that are too large to be here, lowered from shapes alone.

Each function takes a model, a mesh and the rows of a batch. Parameters are split over the mesh as
`sharding.place` splits arrays, rows as `sharding.place_rows` does it; nothing is allocated.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax.tree_util import Partial

from tlx import models
from tlx.analyses.features.similarity import _cka_sums, kernels
from tlx.analyses.landscape import _mean_loss, _operator
from tlx.analyses.landscape.modules import criticality
from tlx.analyses.parameters import distances
from tlx.core import _chunks, evaluation, metrics, sharding, tree
from tlx.core.pair import Pair
from tlx.train import optim
from tlx.train.spec import OptimSpec
from tlx.train.state import make_state
from tlx.train.step import StepConfig, StepInputs, make_apply_fn, make_step


class Model(NamedTuple):
    """A model by its shapes.

    Attributes:
      apply_fn: `(params, inputs) -> outputs`.
      features: `(params, inputs) -> {layer: array}`.
      params: shapes.
      example: the shape of one input, without rows.
      loss: `(outputs, batch) -> float [B]`.
      module: of Linen; None: of plain JAX.
    """

    apply_fn: Callable[..., Any]
    features: Callable[..., Any]
    params: Any
    example: jax.ShapeDtypeStruct
    loss: Callable[..., Any]
    module: Any = None

    def batch(self, rows: int, mesh: Mesh) -> dict[str, Any]:
        """Shapes of a batch, its rows split over the mesh."""
        split = NamedSharding(mesh, PartitionSpec(sharding.row_axes(mesh)))
        inputs = (rows, *self.example.shape)
        labels = inputs if self.module is None else (rows,)
        return {
            "inputs": jax.ShapeDtypeStruct(inputs, self.example.dtype, sharding=split),
            "labels": jax.ShapeDtypeStruct(labels, jnp.int32, sharding=split),
        }


def image_model(name: str, size: int = 224, num_classes: int = 1000, **options: Any) -> Model:
    """A model of `tlx.models` for images of three channels."""
    module = models.make(name, num_classes=num_classes, **options)
    inputs = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    variables = jax.eval_shape(module.init, jax.random.key(0), inputs)

    def features(params: Any, inputs: Any) -> Any:
        return module.apply(params, inputs, method="features")

    example = jax.ShapeDtypeStruct((size, size, 3), jnp.float32)
    loss = metrics.softmax_cross_entropy
    return Model(make_apply_fn(module), features, dict(variables), example, loss, module)


def decoder(layers: int, width: int, inner: int, heads: int, vocabulary: int, length: int) -> Model:
    """A decoder in plain JAX: RMS norms, rotary positions, gated networks, no biases.

    The inside of a block is computed again for its gradient (`jax.checkpoint`).
    """
    block = dict.fromkeys("qkvo", (width, width))
    block |= {"gate": (width, inner), "up": (width, inner), "down": (inner, width)}
    block |= {"norm1": (width,), "norm2": (width,)}
    shapes: dict[str, Any] = {f"block{i:02}": block for i in range(layers)}
    shapes |= {"embedding": (vocabulary, width), "head": (width, vocabulary), "norm": (width,)}
    params = jax.tree.map(
        lambda shape: jax.ShapeDtypeStruct(shape, jnp.float32),
        shapes,
        is_leaf=lambda x: isinstance(x, tuple),
    )

    def features(params: Any, tokens: Any) -> Any:
        found = {"embedding": jnp.take(params["embedding"], tokens, axis=0)}
        x = found["embedding"]
        for i in range(layers):
            found[f"block{i:02}"] = x = _block(params[f"block{i:02}"], x, heads)
        return found | {"logits": _rms(x, params["norm"]) @ params["head"]}

    def apply_fn(params: Any, tokens: Any) -> Any:
        return features(params, tokens)["logits"]

    example = jax.ShapeDtypeStruct((length,), jnp.int32)
    return Model(apply_fn, features, params, example, _token_loss)


def _token_loss(logits: Any, batch: Any) -> Any:
    """The mean cross-entropy over the tokens of each row."""
    each = optax.softmax_cross_entropy_with_integer_labels(logits, batch["labels"])
    return each.mean(-1)


def _rms(x: Any, scale: Any) -> Any:
    mean = jnp.mean(jnp.square(x), -1, keepdims=True)
    return x * jax.lax.rsqrt(mean + 1e-6) * scale[None, None]


@functools.partial(jax.checkpoint, static_argnums=2)
def _block(p: Any, x: Any, heads: int) -> Any:
    rows, length, width = x.shape
    y = _rms(x, p["norm1"])
    q, k, v = (jnp.reshape(y @ p[name], (rows, length, heads, width // heads)) for name in "qkv")
    scores = jnp.einsum("bqhd,bkhd->bhqk", _turned(q), _turned(k)) / (width // heads) ** 0.5
    seen = jnp.tril(jnp.ones((length, length), bool))
    weights = jax.nn.softmax(jnp.where(seen[None, None], scores, -jnp.inf))
    x = x + jnp.einsum("bhqk,bkhd->bqhd", weights, v).reshape(x.shape) @ p["o"]
    y = _rms(x, p["norm2"])
    return x + (jax.nn.silu(y @ p["gate"]) * (y @ p["up"])) @ p["down"]


def _turned(x: Any) -> Any:
    """The queries or keys turned by their positions."""
    length, half = x.shape[1], x.shape[3] // 2
    rates = 1e4 ** (-jnp.arange(half, dtype=x.dtype) / half)
    angle = jnp.outer(jnp.arange(length, dtype=x.dtype), rates)
    cos, sin = (f(angle)[None, :, None] for f in (jnp.cos, jnp.sin))
    a, b = x[..., :half], x[..., half:]
    return jnp.concatenate((a * cos - b * sin, a * sin + b * cos), -1)


def placed(shapes: Any, mesh: Mesh) -> Any:
    """Shapes on a mesh, as `sharding.place` places arrays."""

    def one(leaf: Any) -> Any:
        where = NamedSharding(mesh, sharding.largest_axis(leaf.shape, mesh))
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where)

    return jax.tree.map(one, shapes)


def training(model: Model, mesh: Mesh, rows: int) -> Any:
    """A step of AdamW: the trainer's where the model is of Linen, which is what it takes."""
    batch = model.batch(rows, mesh)
    if model.module is None:
        return _plain_training(model, mesh, batch)
    spec = OptimSpec(rate=0.1, name="adamw")
    static = optim.static_of(spec)
    state = jax.eval_shape(lambda v: make_state(v, static, 0), model.params)
    numbers = jax.eval_shape(lambda: StepInputs(jnp.float32(0), optim.hyper_of(spec)))
    step = make_step(StepConfig(model.module, "softmax", 0.0, static), mesh)
    return step.lower(placed(state, mesh), batch, numbers)


def _plain_training(model: Model, mesh: Mesh, batch: Any) -> Any:
    adam = optax.adamw(1e-3)

    def step(params: Any, state: Any, batch: Any) -> Any:
        def mean(params: Any) -> Any:
            return model.loss(model.apply_fn(params, batch["inputs"]), batch).mean()

        value, slope = jax.value_and_grad(mean)(params)
        updates, state = adam.update(slope, state, params)
        return sharding.place((optax.apply_updates(params, updates), state), mesh), value

    params, state = placed((model.params, jax.eval_shape(adam.init, model.params)), mesh)
    with jax.numpy_dtype_promotion("standard"):  # optax counts in integers
        return jax.jit(step, donate_argnums=(0, 1)).lower(params, state, batch)


def points(model: Model, mesh: Mesh, rows: int) -> Any:
    """A batch at as many points of a path as the mesh has."""
    metric, chunk = metrics.mean(model.loss), _chunks.Chunk(mesh.shape["points"], mesh)
    batch, state = model.batch(rows, mesh), _chunks.initial(metric, chunk)
    args = state, _at_points(model.params, mesh), batch
    return evaluation._update.lower(model.apply_fn, metric, chunk, *args)


def _at_points(params: Any, mesh: Mesh) -> Any:
    if mesh.shape["points"] == 1:
        return placed(params, mesh)

    def one(leaf: Any) -> Any:
        where = NamedSharding(
            mesh, PartitionSpec("points", *sharding.largest_axis(leaf.shape, mesh))
        )
        shape = (mesh.shape["points"], *leaf.shape)
        return jax.ShapeDtypeStruct(shape, leaf.dtype, sharding=where)

    return jax.tree.map(one, params)


def formed(model: Model, mesh: Mesh, rows: int) -> Any:
    """As many points of a line as the mesh has, formed."""
    del rows
    ends = placed(model.params, mesh)
    chunk = _chunks.Chunk(mesh.shape["points"], mesh)
    at = jax.ShapeDtypeStruct((chunk.width,), jnp.float32)
    return _chunks._form_traced.lower(Partial(tree.lerp, ends, ends), at, chunk, None)


def noise(model: Model, mesh: Mesh, rows: int) -> Any:
    """A draw of noise, of criticality."""
    del rows
    params, key = placed(model.params, mesh), jax.eval_shape(lambda: jax.random.key(0))
    places = tuple(leaf.sharding for leaf in jax.tree.leaves(params))
    return criticality._noise.lower(key, params, frozenset(), places)


def product(model: Model, mesh: Mesh, rows: int) -> Any:
    """The Hessian of a batch times a vector."""
    params = placed(model.params, mesh)
    chosen = tuple(not name.startswith("batch_stats") for name in tree.names(params))
    leaves = [x for x, c in zip(jax.tree.leaves(params), chosen, strict=True) if c]
    places = tuple(x.sharding for x in leaves)
    static = _mean_loss.Static(model.apply_fn, model.loss, chosen, places)
    args = static, params, (leaves, leaves), model.batch(rows, mesh)
    return _mean_loss._masked.lower(_operator.hessian_part, *args)


def cka(model: Model, mesh: Mesh, rows: int) -> Any:
    """A batch of the CKA of all layers of two models."""
    params, batch = placed(model.params, mesh), model.batch(rows, mesh)
    names = tuple(jax.eval_shape(model.features, params, batch["inputs"]))
    options = _cka_sums.Options(kernels.linear(), "flatten", mesh=mesh)
    fold = _cka_sums.metric(names, names, options)
    pair = Pair(model.features, model.features)
    chunk = _chunks.Chunk(1, mesh)
    return evaluation._update.lower(pair, fold, chunk, fold.init(), (params, params), batch)


def apart(model: Model, mesh: Mesh, rows: int) -> Any:
    """The sums of the distance of two models."""
    del rows
    params = placed(model.params, mesh)
    return distances._sums.lower(params, params)
