import os
import subprocess
import sys
from pathlib import Path

import pytest

from tlx.studies import resources

MEMINFO = "MemTotal:       24000000 kB\nMemFree:  100 kB\nMemAvailable:   8000000 kB\n"


@pytest.fixture
def machine(tmp_path):
    (tmp_path / "meminfo").write_text(MEMINFO)
    return tmp_path


def test_what_is_available_is_what_the_system_and_the_container_allow(machine):
    def available():
        return resources.available_bytes(machine / "meminfo", machine)

    assert available() == 8_192_000_000
    (machine / "memory.max").write_text("max\n")
    (machine / "memory.current").write_text("5\n")
    assert available() == 8_192_000_000
    (machine / "memory.max").write_text("1000\n")
    assert available() == 995
    (machine / "memory.current").write_text("1001\n")
    assert available() == 0


def test_where_nothing_says_it_is_not_known(tmp_path):
    assert resources.available_bytes(tmp_path / "meminfo", tmp_path) is None


@pytest.mark.parametrize(
    ("cores", "gib", "expected"), [(2, 64, 2), (8, 7, 3), (4, 0, 1), (64, 999, 16), (3, None, 3)]
)
def test_workers_have_a_core_and_memory_each(monkeypatch, cores, gib, expected):
    monkeypatch.setattr(resources, "cores", lambda: cores)
    available = None if gib is None else gib * 2**30
    monkeypatch.setattr(resources, "available_bytes", lambda: available)
    assert resources.workers() == expected


def test_this_machine():
    assert resources.cores() >= 1
    assert resources.workers() >= 1


def test_an_accelerator_is_one_process(monkeypatch):
    monkeypatch.setattr(resources.jax, "default_backend", lambda: "gpu")
    assert resources.workers() is None


def test_one_thread_is_what_xla_has():
    code = (
        "import glob, jax; jax.numpy.ones(3).block_until_ready()\n"
        "names = [open(f).read().strip() for f in glob.glob('/proc/self/task/*/comm')]\n"
        "print(names.count('tf_XLAEigen'))"
    )
    environment = os.environ | resources.ONE_THREAD | {"JAX_PLATFORMS": "cpu"}
    if not Path("/proc/self/task").exists():
        pytest.skip("the threads of a process are not listed on this system")
    command = [sys.executable, "-c", code]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert found.stdout == "1\n"


def test_what_is_compiled_is_kept_for_the_next_process(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    folder = Path(resources.environment()["JAX_COMPILATION_CACHE_DIR"])
    assert folder.parent == tmp_path / "tlx" / "programs"
