"""Strict settings for all tests: several CPU devices, no silent promotion, same random draws."""

import gc
import resource
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import jax
import pytest

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")

STATM = Path("/proc/self/statm")
MOST_BYTES = 2 * 2**30

hypothesis.settings.register_profile("tlx", deadline=None, derandomize=True, max_examples=15)
hypothesis.settings.load_profile("tlx")


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
