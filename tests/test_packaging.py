"""The wheel: holds every file of the package, and imports from a clean environment.

Built from the source distribution without isolation, so without the package index. The clean
environment finds the dependencies of this one through a .pth file and tlx in the wheel alone.
"""

import configparser
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest
from packaging import requirements, utils

ROOT = Path(__file__).resolve().parents[1]

IMPORT_ALL = """
import json, pkgutil, tlx
found = [m.name for m in pkgutil.walk_packages(tlx.__path__, "tlx.")]
for name in found:
    __import__(name)
print(json.dumps({"file": tlx.__file__, "modules": found}))
"""


def call(*words: str | Path, cwd: Path) -> str:
    """What a command prints, run where this repository is not on the path."""
    environ = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    done = subprocess.run(
        [str(word) for word in words],
        cwd=cwd,
        env=environ | {"JAX_PLATFORMS": "cpu"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def package_files() -> set[str]:
    """The files of the package in the tree, as paths from the root."""
    return {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "tlx").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy, so that nothing is left in the tree."""
    source = tmp_path_factory.mktemp("source")
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "tlx", source / "tlx", ignore=shutil.ignore_patterns("__pycache__"))
    call(sys.executable, "-m", "build", "--no-isolation", "--outdir", "dist", ".", cwd=source)
    (built,) = (source / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of an environment with the wheel and what it depends on, not this tree."""
    root = tmp_path_factory.mktemp("environment")
    venv.EnvBuilder(with_pip=False, symlinks=True).create(root)
    python = root / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    call(*pip, "--python", python, "install", "--no-deps", "--no-index", wheel, cwd=root)
    # .pth files that lie in this environment are not read there: tlx stays unseen
    (site,) = root.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return root / "bin"


def test_wheel_holds_every_file(wheel: Path):
    names = {n for n in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in n}
    assert names == package_files()


def test_wheel_carries_licence_and_types(wheel: Path):
    names = zipfile.ZipFile(wheel).namelist()
    assert "tlx/py.typed" in names
    assert any(name.endswith(".mplstyle") for name in names)
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_every_module_imports_from_the_wheel(environment: Path, tmp_path: Path):
    seen = json.loads(call(environment / "python", "-c", IMPORT_ALL, cwd=tmp_path))
    assert Path(seen["file"]).is_relative_to(environment.parent)
    in_tree = {
        name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        for name in package_files()
        if name.endswith(".py")
    }
    assert set(seen["modules"]) | {"tlx"} == in_tree


def test_the_tested_versions_are_those_that_are_allowed():
    """Every requirement of every extra but the benchmark's has one version that it allows."""
    pinned = {}
    for line in (ROOT / "launch" / "constraints.txt").read_text().splitlines():
        if not line.startswith("#"):
            name, _, version = line.partition("==")
            pinned[utils.canonicalize_name(name)] = version
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    extras = dict(config["options.extras_require"])
    del extras["benchmark"]
    texts = [config["options"]["install_requires"], *extras.values()]
    wanted = [r for text in texts for r in text.split("\n") if r and not r.startswith("#")]
    for requirement in map(requirements.Requirement, wanted):
        if requirement.name not in ("tlx-transfer", "setuptools"):
            assert requirement.specifier.contains(pinned[utils.canonicalize_name(requirement.name)])


def test_the_release_pins_its_actions_and_has_no_token():
    text = (ROOT / ".github" / "workflows" / "release.yml").read_text()
    used = re.findall(r"uses: (\S+)", text)
    assert len(used) == 5
    assert all(re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", action) for action in used)
    assert "secrets" not in text
    assert "id-token: write" in text.partition("  publish:")[2]
    assert "id-token: write" not in text.partition("  publish:")[0]


def test_entry_point_prints_its_help(environment: Path, tmp_path: Path):
    printed = call(environment / "tlx", "--help", cwd=tmp_path)
    assert "study" in printed
    assert "train" in printed
