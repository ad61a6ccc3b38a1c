"""Three steps of the trainer from the authors' weights are those of the authors' code.

In float64, as in tests/models/test_fixup_reference.py: in float32 a unit at the kink of its relu
makes the third step depend on the order of a sum.
"""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tests.helpers import torch_names
from tlx.core import sharding, tree
from tlx.train import optim
from tlx.train.spec import OptimSpec
from tlx.train.state import make_state
from tlx.train.step import StepConfig, StepInputs, make_step

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden" / "fixup_resnet18_seed0.npz"


def torch_leaves(golden: Any) -> list[str]:
    return [key.split("/", 1)[1] for key in golden.files if key.startswith("grad_l2/")]


def three_steps(names: list[str]) -> tuple[list[float], dict[str, float]]:
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((8, 3, 64, 64)).transpose(0, 2, 3, 1).astype(np.float32)
    batch = {
        "inputs": jnp.asarray(inputs, jnp.float64),
        "labels": jnp.asarray(rng.integers(0, 10, 8), jnp.int32),
        "mask": jnp.ones(8, bool),
    }
    module = torch_names.reference_model().clone(dtype="float64")
    like = jax.eval_shape(module.init, jax.random.key(0), batch["inputs"])["params"]
    weights = torch_names.reference_params(names, like, 0)
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), weights)
    spec = OptimSpec(rate=0.01, rules=(("(bias|scale)[^/]*$", 0.1),))
    static = optim.static_of(spec)
    mesh = sharding.make_mesh(jax.devices()[:1])
    step_fn = make_step(StepConfig(module=module, loss="softmax", mixup=0.0, optim=static), mesh)
    state = sharding.replicate(make_state({"params": params}, static, 0), mesh)
    wide = jax.tree.map(jnp.float64, optim.hyper_of(spec))
    losses = []
    for _ in range(3):
        state, metrics = step_fn(state, batch, StepInputs(jnp.float64(spec.rate), wide))
        losses.append(float(metrics["loss"]))
    after = tree.named_leaves(state.params)
    norms = {n: float(np.linalg.norm(np.asarray(after[torch_names.ours(n)]))) for n in names}
    return losses, norms


def test_three_steps_are_those_of_the_authors() -> None:
    golden = np.load(GOLDEN, allow_pickle=False)
    names = torch_leaves(golden)
    with jax.enable_x64(True):
        losses, norms = three_steps(names)
    np.testing.assert_allclose(losses, golden["losses"], rtol=1e-5)
    for name in names:
        np.testing.assert_allclose(norms[name], golden[f"after3_l2/{name}"], rtol=1e-4)
