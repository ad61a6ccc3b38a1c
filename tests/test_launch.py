"""The launch scripts: what .venv's keeper does when, and what the local ones run.

They run with a stand-in for the interpreter that makes a .venv and installs in no time.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.helpers import clones

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = sorted(path for path in (ROOT / "launch").iterdir() if path.suffix in (".sh", ".sbatch"))

DECIDING = ("PYTHON", "DRY_RUN", "TLX_JAX", "TLX_LATEST")


def bash(*words: str | Path, env: Mapping[str, str] | None = None, cwd: Path | None = None):
    """The finished process of a bash script, with the environment's PYTHON and DRY_RUN unset."""
    kept = {k: v for k, v in os.environ.items() if k not in DECIDING}
    return subprocess.run(
        ["bash", *map(str, words)],
        env={**kept, **(env or {})},
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A copy of what the local scripts read, in a folder whose name has a space."""
    root = tmp_path / "a clone"
    clones.make_clone(root)
    return root


def ensure(clone: Path, extra: str, **env: str) -> list[str]:
    """What `ensure_env EXTRA` makes and installs in a clone."""
    log = clone.parent / "log"
    log.write_text("")
    code = f"set -euo pipefail; source launch/env.sh; ensure_env {extra}"
    env = {"PYTHON": str(clone.parent / "python3"), **env}
    done = bash("-c", code, env=env, cwd=clone)
    assert "Traceback" not in done.stderr
    assert done.returncode == (1 if "PIP_FAILS" in env else 0), done.stderr
    return log.read_text().replace(f"{clone.name}[", "[").splitlines()


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_parses(script: Path):
    assert bash("-n", script).returncode == 0


def test_shellcheck_finds_nothing():
    node = ROOT / "tests/clusters/slurm_node.sh"
    words = [str(Path(sys.executable).with_name("shellcheck")), "--severity=warning"]
    words += ["--external-sources", "--source-path=launch", *map(str, [*SCRIPTS, node])]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_second_run_installs_nothing(clone: Path):
    assert ensure(clone, "demo") == ["venv", "pip [demo]"]
    assert ensure(clone, "demo") == []


def test_the_newest_versions_are_an_installation_of_their_own(clone: Path):
    assert ensure(clone, "demo") == ["venv", "pip [demo]"]
    assert ensure(clone, "demo", TLX_LATEST="1") == ["pip [demo] latest"]
    assert ensure(clone, "demo", TLX_LATEST="1") == []
    assert ensure(clone, "demo") == ["pip [demo]"]


def test_test_extra_includes_demo(clone: Path):
    ensure(clone, "demo")
    assert ensure(clone, "test") == ["pip [test]"]
    assert ensure(clone, "demo") == []
    assert ensure(clone, "test") == []


def test_changed_declaration_installs_again(clone: Path):
    ensure(clone, "demo")
    with (clone / "setup.cfg").open("a") as file:
        file.write("\n")
    assert ensure(clone, "demo") == ["pip [demo]"]


def test_accelerator_is_installed_once(clone: Path):
    ensure(clone, "demo")
    assert ensure(clone, "demo", TLX_JAX="cuda13") == ["pip jax[cuda13]"]
    assert ensure(clone, "demo", TLX_JAX="cuda13") == []
    assert ensure(clone, "demo") == []


def test_failed_installation_is_taken_up_again(clone: Path):
    assert ensure(clone, "demo", PIP_FAILS="1") == ["venv", "pip [demo]"]
    assert ensure(clone, "demo") == ["pip [demo]"]
    assert ensure(clone, "demo") == []


def test_broken_or_moved_venv_is_made_again(clone: Path):
    ensure(clone, "demo")
    (clone / ".venv/bin/python").unlink()
    assert ensure(clone, "demo") == ["venv", "pip [demo]"]
    moved = clone.rename(clone.parent / "elsewhere")
    assert ensure(moved, "demo") == ["venv", "pip [demo]"]


def test_local_passes_arguments_on_from_any_folder(clone: Path, tmp_path: Path):
    env = {"PYTHON": str(tmp_path / "python3")}
    done = bash(clone / "launch/local.sh", "train", "--config=a b.py", env=env, cwd=tmp_path)
    assert done.stdout == "tlx ran: train --config=a b.py\n"
    done = bash(clone / "launch/local.sh", env=env, cwd=tmp_path)
    assert done.stdout == "tlx ran: study --config=configs/mini.py --workdir=runs/mini\n"


@pytest.mark.parametrize("script", ["local.sh", "test.sh", "test_clean.sh"])
@pytest.mark.parametrize("word", ["-h", "--help"])
def test_help_is_the_header_and_installs_nothing(script: str, word: str, clone: Path):
    env = {"PYTHON": str(clone.parent / "python3")}
    done = bash(clone / "launch" / script, word, env=env)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"bash launch/{script} " in done.stdout
    assert "#" not in done.stdout
    assert "set -e" not in done.stdout
    assert not (clone / ".venv").exists()


def test_local_tells_its_commands_in_a_dry_run(clone: Path):
    env = {"PYTHON": str(clone.parent / "python3")}
    done = bash(clone / "launch/local.sh", "--dry-run", "train", "--config=x", env=env)
    assert done.returncode == 0
    tlx = str(clone / ".venv/bin/tlx").replace(" ", "\\ ")
    assert done.stdout == f"ensure_env demo \nexec {tlx} train --config=x \n"
    assert not (clone / ".venv").exists()


def test_missing_python_is_a_sentence(clone: Path, tmp_path: Path):
    done = bash(clone / "launch/local.sh", env={"PYTHON": "/nowhere/python"})
    assert done.returncode == 1
    assert done.stderr == (
        "[tlx] PYTHON=/nowhere/python is not a Python 3.11, 3.12 or 3.13 that runs\n"
    )
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("bash", "dirname", "cat", "grep"):
        (tools / name).symlink_to(str(shutil.which(name)))
    done = bash(clone / "launch/local.sh", env={"PATH": str(tools)})
    assert done.returncode == 1
    assert done.stderr == (
        "[tlx] found no Python 3.11, 3.12 or 3.13: install one, or name one with "
        "PYTHON=/path/to/python3\n"
    )
