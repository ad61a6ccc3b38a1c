"""Every example in a docstring of tlx prints what it says.

Not by pytest's --doctest-modules, which would import every file of tests/ too: workers and
benchmarks that are programs, not modules.
"""

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MODULES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in sorted((ROOT / "tlx").rglob("*.py"))
    if ">>> " in path.read_text()
]


WHOLE = ("tlx.core.", "tlx.analyses.")
"""Parts whose examples are to be copied, so that they import all that they name."""


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str, capsys: pytest.CaptureFixture[str]):
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    module, names = importlib.import_module(name), {} if name.startswith(WHOLE) else None
    results = doctest.testmod(module, globs=names, optionflags=flags)
    assert results.attempted, f"{name} has a >>> that is no example"
    assert not results.failed, capsys.readouterr().out
