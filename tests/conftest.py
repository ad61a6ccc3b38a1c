"""Strict settings for all tests: several CPU devices, no silent promotion, same random draws."""

import atexit
import gc
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import jax
import pytest

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")

# What this machine has of data decides no test: one that needs some makes them and says where, or
# asks for the machine's and is skipped, with the reason, where there are none.
for name in [name for name in os.environ if name.startswith("TLX_")] + ["TFDS_DATA_DIR"]:
    os.environ.pop(name, None)
os.environ["TLX_FASHION_MNIST"] = os.environ["TFDS_DATA_DIR"] = "/nonexistent"

# digests of the files that tests make are not for the user's cache
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="tlx-tests-")
atexit.register(shutil.rmtree, os.environ["XDG_CACHE_HOME"], ignore_errors=True)

# Compiling is most of the suite's time, and these two halve it: loops without MLIR's emitters, one
# LLVM module a program. XLA ends a process that names a flag it does not have, so that is tried in
# another one; processes that tests start inherit them. With XLA_FLAGS of your own (empty, too)
# programs are compiled as users do: every test holds of both.
QUICK_COMPILATION = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
if "XLA_FLAGS" not in os.environ:
    reads_flags = "from jaxlib import xla_client; xla_client.CompileOptions()"
    environment = os.environ | {"XLA_FLAGS": QUICK_COMPILATION}
    tried = subprocess.run(
        [sys.executable, "-c", reads_flags], env=environment, stderr=subprocess.DEVNULL
    )
    os.environ["XLA_FLAGS"] = QUICK_COMPILATION if tried.returncode == 0 else ""

STATM = Path("/proc/self/statm")
MOST_BYTES = 2 * 2**30

SHORT_RUNS = ("adapters", "analyses", "core", "data", "models")
"""Folders whose tests compile much that runs for milliseconds: there, with few optimisations.

With the environment's JAX_DISABLE_MOST_OPTIMIZATIONS=0 all compile as users do: the laws hold of
both."""

LONG = (
    "test_runner.py",
    "test_frameworks_landscape.py",
    "test_notebook.py",
    "test_readme.py",
    "test_processes.py",
    "test_rebasin_laws.py",
)
"""Files that take long, begun first: the last one that is begun is waited for."""

hypothesis.settings.register_profile("tlx", deadline=None, derandomize=True, max_examples=10)
hypothesis.settings.load_profile("tlx")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in LONG)


@pytest.fixture(scope="module", autouse=True)
def quick_compilation(request: pytest.FixtureRequest) -> Iterator[None]:
    """Few optimisations where compiling is what takes the time."""
    is_short = request.path.relative_to(Path(__file__).parent).parts[0] in SHORT_RUNS
    is_chosen = "JAX_DISABLE_MOST_OPTIMIZATIONS" in os.environ
    if is_short and not is_chosen:
        jax.config.update("jax_disable_most_optimizations", True)
    yield
    if is_short and not is_chosen:
        jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(scope="module", autouse=True)
def bounded_memory() -> Iterator[None]:
    """Forgets what was compiled where it is much: a process with thousands of programs dies."""
    yield
    if not STATM.exists():  # Linux alone says so cheaply
        return
    resident = int(STATM.read_text().split()[1]) * resource.getpagesize()
    if resident > MOST_BYTES:
        jax.clear_caches()
        gc.collect()
