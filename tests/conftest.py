"""Strict settings for all tests: several CPU devices, no silent promotion, same random draws."""

import atexit
import gc
import os
import resource
import shutil
import signal
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
# Nor is what this process compiles, so that no order of tests decides what it finds.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    jax.config.update("jax_enable_compilation_cache", False)

# A shell that starts this in the background has it ignore Ctrl-C, which tests send to themselves.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Compiling is most of the suite's time. These halve it: few optimisations, loops without MLIR's
# emitters, one LLVM module a program. XLA ends a process that names a flag it does not have, so
# that is tried in another one. Processes that tests start inherit both. With XLA_FLAGS of your own
# (empty, too) all is compiled as users do: every test is to hold of both.
QUICK_FLAGS = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
IS_QUICK = "XLA_FLAGS" not in os.environ or os.environ["XLA_FLAGS"] == QUICK_FLAGS
if IS_QUICK:
    reads_flags = [sys.executable, "-c", "from jaxlib import xla_client as x; x.CompileOptions()"]
    environment = os.environ | {"XLA_FLAGS": QUICK_FLAGS}
    if subprocess.run(reads_flags, env=environment, stderr=subprocess.DEVNULL).returncode == 0:
        os.environ["XLA_FLAGS"] = QUICK_FLAGS
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
    jax.config.update("jax_disable_most_optimizations", True)

STATM = Path("/proc/self/statm")
MOST_BYTES = 2 * 2**30

LONG = (
    "test_runner.py",
    "test_frameworks_landscape.py",
    "test_notebook.py",
    "test_site.py",
    "test_readme.py",
    "test_processes.py",
    "test_rebasin_laws.py",
    "test_modes.py",
    "test_reuse.py",
    "test_paper_configs.py",
    "test_loop.py",
)
"""Files that take long, begun first: the last one that is begun is waited for."""

FULL_SIZE = ("test_reference.py", "test_fixup_reference.py")
"""Files whose programs run longer than they are compiled."""

# tracing makes many objects that live long, and JAX does work of its own at each collection: with
# the usual thresholds 4 to 7 % of the time
gc.set_threshold(50_000, 20, 50)

hypothesis.settings.register_profile("tlx", deadline=None, derandomize=True, max_examples=10)
hypothesis.settings.load_profile("tlx")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in LONG)


@pytest.fixture(scope="module", autouse=True)
def optimised(request: pytest.FixtureRequest) -> Iterator[None]:
    """All optimisations where what runs takes longer than compiling it."""
    is_full = IS_QUICK and request.path.name in FULL_SIZE
    if is_full:
        jax.config.update("jax_disable_most_optimizations", False)
    yield
    if is_full:
        jax.config.update("jax_disable_most_optimizations", True)


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
