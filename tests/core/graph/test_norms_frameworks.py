"""Which leaves of the frameworks' layers are taken for batch statistics."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from tests.helpers import tiny_models
from tlx import models
from tlx.adapters import equinox as equinox_adapter
from tlx.adapters import linen as linen_adapter
from tlx.core import batch_statistics, graph


@pytest.mark.parametrize("make", [nn.LayerNorm, nn.RMSNorm, lambda: nn.GroupNorm(2)])
def test_other_normalisations_of_linen(make):
    model = nn.Sequential([nn.Dense(4), make(), nn.WeightNorm(nn.Dense(2))])
    params = model.init(jax.random.key(0), jnp.ones((2, 3)))
    assert batch_statistics.find(lambda p, x: model.apply(p, x), params, jnp.ones((2, 3))) == ()


@pytest.mark.parametrize("framework", tiny_models.FRAMEWORKS)
def test_every_framework(framework):
    tiny = tiny_models.make(framework, 0)
    (norm,) = batch_statistics.find(tiny.apply_fn, tiny.params, tiny_models.make_inputs(4)[0])
    assert norm.mean == tiny.roles["norm/mean"]
    assert norm.var == tiny.roles["norm/var"]


class Counted(eqx.Module):
    """Equinox's other mode, which divides the leaves by 1 − momentumⁿ when it reads them."""

    norm: eqx.nn.BatchNorm

    def __init__(self):
        self.norm = eqx.nn.BatchNorm(3, axis_name="batch", mode="batch")

    def __call__(self, x, state):
        return self.norm(x, state)


def test_running_averages_that_are_corrected_when_read():
    with jax.numpy_dtype_promotion("standard"):
        model, state = eqx.nn.make_with_state(Counted)()
        inputs = jnp.asarray(np.random.default_rng(0).normal(2, 3, (9, 3)), jnp.float32)
        run = jax.vmap(model, axis_name="batch", in_axes=(0, None), out_axes=(0, None))
        for _ in range(2):
            _, state = run(inputs, state)
        apply_fn, params = equinox_adapter.adapt(model, state)
        (norm,) = batch_statistics.find(apply_fn, params, inputs)
        np.testing.assert_allclose(norm.factors, 1 / (1 - 0.99**2), rtol=1e-5)
        new = batch_statistics.reestimate(apply_fn, params, lambda: iter([{"inputs": inputs}]))
        out = np.asarray(apply_fn(new, inputs))
    np.testing.assert_allclose(out.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(out.std(0), 1, rtol=1e-4)


@pytest.mark.parametrize("name", ["resnet", "fixup_resnet"])
def test_residual_nets(name):
    model = models.make(name, num_classes=3, stage_sizes=(1, 1), stem="small", width=4)
    inputs = jnp.ones((2, 8, 8, 3))
    variables = jax.eval_shape(model.init, jax.random.key(0), inputs)
    apply_fn = linen_adapter.adapt(model, variables, train=False).apply_fn
    norms = batch_statistics.find(apply_fn, variables, inputs)
    leaves = [leaf for norm in norms for leaf in (norm.mean, norm.var)]
    names = graph.trace(apply_fn, variables, inputs).leaves
    assert sorted(leaves) == sorted(n for n in names if n.startswith("batch_stats"))
