"""The code in README runs as it stands."""

import contextlib
import functools
import importlib
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
# as it stands in the first mode; NaN and dtypes are those of fewer examples and draws, too
FEWER = {
    "(1000, 20)": "(200, 20)",
    "10, 1000)": "10, 200)",
    "num_resamples=200": "num_resamples=20",
}


@pytest.mark.parametrize("mode", MODES)
def test_the_library_calls_run(mode, capsys):
    readme = README
    for given, fewer in FEWER.items():
        assert README.count(given) == 1
        readme = readme.replace(given, fewer) if mode != "strict promotion" else README
    names: dict[str, object] = {}  # one session: each piece goes on from those before
    with MODES[mode]():
        for code in re.findall(r"```python\n(.*?)```", readme, re.DOTALL):
            exec(compile(code, "README.md", "exec"), names)
    out = capsys.readouterr().out
    assert "Barrier(height=" in out
    assert re.search(r"^(yes|no|open) \[", out, re.MULTILINE)


def test_the_questions_tables_name_what_there_is():
    names = []
    part = README[README.index("| `function`:") : README.index("`core.evaluate_path` is")]
    for table in part.split("\n\n")[:4]:
        wing = importlib.import_module(f"tlx.analyses.{re.findall('`(.*?)`', table)[0]}")
        for cell in re.findall(r"\| ([^|]*`) \|", table):
            places = [wing]  # a name goes on from where the one before it was
            for name in re.findall(r"`([\w.]+)`", cell):
                at = next((place for place in places if has(place, name)), None)
                assert at is not None, name
                places.insert(0, functools.reduce(getattr, name.split(".")[:-1], at))
                names.append(name)
    assert len(names) > 40


def has(place, name):
    return bool(functools.reduce(lambda at, part: getattr(at, part, None), name.split("."), place))


def test_what_it_names_is_there():
    for path in re.findall(r"\]\(([^):]+)\)", README):
        assert Path(path).exists(), path
    for script in re.findall(r"(launch/\w+\.\w+)", README):
        assert Path(script).exists(), script
    assert "{" not in re.sub(r"```.*?```", "", README, flags=re.DOTALL)
