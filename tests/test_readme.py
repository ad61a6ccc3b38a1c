"""The code in README runs as it stands."""

import re
from pathlib import Path

README = Path("README.md").read_text()


def test_the_library_calls_run(capsys):
    names: dict[str, object] = {}  # one session: each piece goes on from those before
    for code in re.findall(r"```python\n(.*?)```", README, re.DOTALL):
        exec(compile(code, "README.md", "exec"), names)
    out = capsys.readouterr().out
    assert "Barrier(height=" in out
    assert re.search(r"^(yes|no|open) \[", out, re.MULTILINE)


def test_what_it_names_is_there():
    for path in re.findall(r"\]\(([^):]+)\)", README):
        assert Path(path).exists(), path
    for script in re.findall(r"(launch/\w+\.\w+)", README):
        assert Path(script).exists(), script
    assert "{" not in re.sub(r"```.*?```", "", README, flags=re.DOTALL)
