"""The documentation builds without a warning, and everything public is in it.

In its fast form: the notebooks and the examples of docstrings are run by tests of their own.
"""

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tlx.core import public
from tlx.report.questions import PARTS, QUESTIONS

ROOT = Path(__file__).resolve().parents[1]
FIGURES = (ROOT / "docs" / "figures.md").read_text()

# Sphinx's builder without pages: everything is read and every reference resolved
BUILD = """
import json, sys
from sphinx.application import Sphinx
source, out, objects = sys.argv[1:]
site = Sphinx(source, source, out, out, "dummy", {"nb_execution_mode": "off"}, status=None)
site.build()
found = {name: entry.docname for name, entry in site.env.domaindata["py"]["objects"].items()}
with open(objects, "w") as file:
    json.dump({"objects": found, "pages": sorted(site.env.all_docs)}, file)
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    pytest.importorskip("myst_nb")
    out = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-c", BUILD, str(ROOT / "docs"), str(out / "built"), str(out / "found")],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr  # where warnings go
    return json.loads((out / "found").read_text())


def public_modules() -> list[str]:
    paths = [path.relative_to(ROOT).with_suffix("") for path in (ROOT / "tlx").rglob("*.py")]
    names = [".".join(path.parts) for path in paths if path.name != "__init__"]
    return [name for name in names if "._" not in name and name.split(".")[1] != "cli"]


def test_every_public_name_is_described(site):
    missing = [
        f"{module}.{name}"
        for module in public_modules()
        for name in public.names(importlib.import_module(module).__name__)()
        if f"{module}.{name}" not in site["objects"]
    ]
    assert not missing


def test_each_analysis_has_a_page(site):
    for module in public_modules():
        if module.startswith(("tlx.analyses.", "tlx.core.", "tlx.adapters.")):
            assert f"_made/{module}" in site["pages"]


def test_the_guide_to_figures_has_all_of_them():
    assert re.findall(r"^`(\w+)`:", FIGURES, re.MULTILINE) == list(PARTS)
    assert re.findall(r"^% how (\w+)$", FIGURES, re.MULTILINE) == list(QUESTIONS)
    titles = [question.title for question in QUESTIONS.values()]
    assert re.findall(r"^## (.*)$", FIGURES, re.MULTILINE) == titles
    drawn = set(re.findall(r"^% figure (\w+)$", FIGURES, re.MULTILINE))
    assert drawn < set(PARTS)


def test_each_notebook_has_a_page(site):
    for path in (ROOT / "colabs").glob("*.ipynb"):
        assert f"notebooks/{path.stem}" in site["pages"]


def test_its_script_explains_itself():
    words = ["bash", "launch/docs.sh", "--fats"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "unknown argument: --fats" in done.stderr
