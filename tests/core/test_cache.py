import os
import subprocess
import sys
from pathlib import Path

import pytest

from tlx.core import cache, processor


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Where programs are kept."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    least = "JAX_PERSISTENT_CACHE_MIN_"
    for name in (
        "JAX_COMPILATION_CACHE_DIR",
        f"{least}COMPILE_TIME_SECS",
        f"{least}ENTRY_SIZE_BYTES",
    ):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "tlx" / "programs"


def test_programs_are_kept_in_a_folder_of_the_users_own(home):
    assert Path(cache.programs()["JAX_COMPILATION_CACHE_DIR"]).parent == home
    assert home.stat().st_mode & 0o777 == 0o700
    home.chmod(0o777)  # whoever may write there may have code run
    cache.programs()
    assert home.stat().st_mode & 0o777 == 0o700


def test_a_folder_of_somebody_else_is_not_used(home, monkeypatch):
    cache.programs()
    monkeypatch.setattr(os, "getuid", lambda: home.stat().st_uid + 1)
    assert cache.programs() == {}


def test_the_users_own_place_is_left(home, monkeypatch):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")
    assert cache.programs() == {}
    assert not home.exists()


def test_processors_that_differ_share_no_programs(home, monkeypatch):
    here = cache.programs()
    assert cache.programs() == here
    monkeypatch.setattr(processor, "cpu_features", lambda: frozenset({"other"}))
    assert cache.programs()["JAX_COMPILATION_CACHE_DIR"] != here["JAX_COMPILATION_CACHE_DIR"]


def test_the_oldest_programs_go_first(home, monkeypatch):
    cache.programs()
    for i, name in enumerate(("kind/c", "a", "kind/b")):
        (home / name).parent.mkdir(exist_ok=True)
        (home / name).write_bytes(bytes(10))
        os.utime(home / name, (i, i))
    monkeypatch.setattr(cache, "PROGRAMS_BYTES", 20)
    cache.programs()  # not a day later
    assert {path.name for path in home.rglob("?")} == {"a", "b", "c"}
    os.utime(home / "looked", (0, 0))
    cache.programs()
    assert {path.name for path in home.rglob("?")} == {"a", "b"}


@pytest.mark.parametrize("imported", ["", "import jax"])
def test_a_process_finds_what_another_has_compiled(home, imported):
    code = f"""
{imported}
from tlx.core import cache
cache.keep_programs()
import jax
hits = []
jax.monitoring.register_event_listener(lambda event, **_: hits.append("cache_hits" in event))
jax.jit(lambda x: 2 * x + 1)(1.0)
print(any(hits))
"""
    command = [sys.executable, "-c", code]
    found = [subprocess.run(command, capture_output=True, text=True, check=True) for _ in range(2)]
    assert [one.stdout for one in found] == ["False\n", "True\n"]
    assert any(home.rglob("*-cache"))


@pytest.mark.parametrize("imported", ["", "import jax"])
def test_what_the_user_has_set_is_left(home, monkeypatch, imported):
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "7.5")
    code = f"""
{imported}
from tlx.core import cache
cache.keep_programs()
import jax
print(jax.config.jax_persistent_cache_min_compile_time_secs)
print(jax.config.jax_persistent_cache_min_entry_size_bytes)
print(jax.config.jax_compilation_cache_dir)
"""
    command = [sys.executable, "-c", code]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds, size, place = found.stdout.split()
    assert (seconds, size) == ("7.5", "0")
    assert Path(place).parent == home
    assert "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in cache.programs()
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "9")
    assert list(cache.programs()) == ["JAX_COMPILATION_CACHE_DIR"]
