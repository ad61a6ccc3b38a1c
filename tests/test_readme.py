"""The code in README runs as it stands."""

import contextlib
import importlib
import importlib.util
import re
from pathlib import Path

import jax
import pytest

README = Path("README.md").read_text()


@contextlib.contextmanager
def _checked():
    """NaN is an error, and weights are float64: with float32 inputs no strict promotion."""
    with jax.debug_nans(True), jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        yield


MODES = {"strict promotion": contextlib.nullcontext, "debug_nans and x64": _checked}


@pytest.mark.parametrize("mode", MODES)
def test_the_library_calls_run(mode, capsys):
    names: dict[str, object] = {}  # one session: each piece goes on from those before
    with MODES[mode]():
        for code in re.findall(r"```python\n(.*?)```", README, re.DOTALL):
            exec(compile(code, "README.md", "exec"), names)
    out = capsys.readouterr().out
    assert "Barrier(height=" in out
    assert re.search(r"^(yes|no|open) \[", out, re.MULTILINE)


def test_the_questions_table_names_what_there_is():
    table = README[README.index("| question |") : README.index("`tlx.adapters` makes")]
    for cell in re.findall(r"\| ([^|]*`) \|\n", table):
        module = None
        for name in re.findall(r"`([\w.]+)`", cell):
            first, _, rest = name.partition(".")
            if importlib.util.find_spec(f"tlx.analyses.{first}"):
                module = importlib.import_module(f"tlx.analyses.{first}")
            assert module is not None, name
            if rest or not importlib.util.find_spec(f"tlx.analyses.{first}"):
                assert hasattr(module, rest or first), name


def test_what_it_names_is_there():
    for path in re.findall(r"\]\(([^):]+)\)", README):
        assert Path(path).exists(), path
    for script in re.findall(r"(launch/\w+\.\w+)", README):
        assert Path(script).exists(), script
    assert "{" not in re.sub(r"```.*?```", "", README, flags=re.DOTALL)
