import os
import subprocess
import sys
from importlib import metadata

import pytest

from tlx.core import processor

FLAG = "--xla_cpu_experimental_ynn_fusion_type="
MALLOC = ("MALLOC_MMAP_MAX_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_ARENA_MAX")
OLDER, NEWER = frozenset({"sse2", "avx2"}), frozenset({"sse2", "avx2", "avx512f"})

# each call takes two buffers of 67 MB, which malloc else maps anew each time
CALLS = """
import resource
{tune}
import jax.numpy as jnp
x = jnp.ones(4096)
def faults(calls):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(calls):
        jnp.exp(jnp.outer(x, x)).block_until_ready()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / calls
print(min(faults(5) for _ in range(6)))  # the heap grows at first
"""
PAGES = 2 * 4096 * 4096 * 4 / 4096


def test_fusions_are_turned_off_without_avx_512():
    assert processor.xla_flags("0.10.2", OLDER) == FLAG
    assert processor.xla_flags("0.10.2", NEWER) == ""


def test_a_version_that_may_not_know_a_flag_is_not_given_it():
    assert processor.xla_flags("99.0.0", OLDER) == ""


def test_another_kind_of_processor_has_no_flags():
    assert processor.xla_flags("0.10.2", frozenset()) == ""


def test_this_version_knows_what_it_is_given():
    flags = processor.xla_flags(metadata.version("jaxlib"), OLDER)
    code = "import jax.numpy as jnp; print(jnp.ones(3).sum())"
    env = os.environ | {"XLA_FLAGS": flags}
    assert subprocess.check_output([sys.executable, "-c", code], env=env, text=True) == "3.0\n"


def test_features_are_read_from_what_linux_says(tmp_path):
    file = tmp_path / "cpuinfo"
    file.write_text("processor: 0\nflags\t\t: fpu avx2\nbugs: none\n\nprocessor: 1\nflags\t: sse\n")
    assert processor.cpu_features(file) == {"fpu", "avx2"}
    assert processor.cpu_features(tmp_path / "missing") == frozenset()


@pytest.fixture
def older(monkeypatch):
    monkeypatch.setattr(processor, "cpu_features", lambda: OLDER)
    monkeypatch.setattr(processor.metadata, "version", lambda name: "0.10.2")
    for name in ("XLA_FLAGS", *MALLOC):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_flags_of_ones_own_stay(older):
    older.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=2")
    expected = f"--xla_force_host_platform_device_count=2 {FLAG}"
    assert processor.environment()["XLA_FLAGS"] == expected
    older.setenv("XLA_FLAGS", f"{FLAG}1")
    assert "XLA_FLAGS" not in processor.environment()


def test_memory_settings_of_ones_own_stay(older):
    older.setenv("MALLOC_MMAP_MAX_", "7")
    assert set(processor.environment()) == {*MALLOC[1:], "XLA_FLAGS"}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="of glibc")
def test_buffers_are_kept_in_this_process_and_in_those_that_it_starts(monkeypatch):
    for name in MALLOC:
        monkeypatch.delenv(name, raising=False)
    plain = dict(os.environ)

    def faults(tune="", env=None):
        command = [sys.executable, "-c", CALLS.format(tune=tune)]
        return float(subprocess.check_output(command, env=plain | (env or {}), text=True))

    assert faults() > PAGES / 2  # else this test shows nothing
    assert faults("from tlx.core import processor; processor.tune()") < PAGES / 4
    assert faults(env=processor.environment()) < PAGES / 4
