"""Three steps of the trainer from the authors' weights are those of the authors' code.

In a process with one CPU device: with four, as the other tests have, results round otherwise,
and plain JAX without the trainer leaves these tolerances too.
"""

import json
import subprocess
import sys
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


def three_steps() -> dict[str, Any]:
    names = torch_leaves(np.load(GOLDEN, allow_pickle=False))
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((8, 3, 64, 64)).transpose(0, 2, 3, 1)
    batch = {
        "inputs": jnp.asarray(inputs, jnp.float32),
        "labels": jnp.asarray(rng.integers(0, 10, 8), jnp.int32),
        "mask": jnp.ones(8, bool),
    }
    module = torch_names.reference_model()
    like = jax.eval_shape(module.init, jax.random.key(0), batch["inputs"])["params"]
    params = torch_names.reference_params(names, like, 0)
    spec = OptimSpec(rate=0.01, rules=(("(bias|scale)[^/]*$", 0.1),))
    static = optim.static_of(spec)
    mesh = sharding.make_mesh(jax.devices()[:1])
    step_fn = make_step(StepConfig(module=module, loss="softmax", mixup=0.0, optim=static), mesh)
    state = sharding.replicate(make_state({"params": params}, static, 0), mesh)
    numbers = StepInputs(jnp.float32(spec.rate), optim.hyper_of(spec))
    losses = []
    for _ in range(3):
        state, metrics = step_fn(state, batch, numbers)
        losses.append(float(metrics["loss"]))
    after = tree.named_leaves(state.params)
    leaves = {name: np.asarray(after[torch_names.ours(name)], np.float64) for name in names}
    return {
        "losses": losses,
        "norms": {name: float(np.linalg.norm(leaf)) for name, leaf in leaves.items()},
    }


def test_three_steps_are_those_of_the_authors() -> None:
    golden = np.load(GOLDEN, allow_pickle=False)
    done = subprocess.run(
        [sys.executable, "-m", "tests.train.test_reference"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    np.testing.assert_allclose(found["losses"], golden["losses"], rtol=1e-5)
    for name in torch_leaves(golden):
        expected = golden[f"after3_l2/{name}"]
        np.testing.assert_allclose(found["norms"][name], expected, rtol=1e-4, err_msg=name)


if __name__ == "__main__":
    jax.config.update("jax_platforms", "cpu")
    print(json.dumps(three_steps()))
