"""A copy of what the launch scripts read, with an interpreter that installs in no time."""

import shutil
import stat
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# Makes and installs in no time, noting each; runs any other code as the real interpreter does.
STAND_IN = """#!/bin/sh
note() {{ echo "$1" >>'{log}'; }}
case "$1 $2" in
  "-m venv")
    note venv
    rm -rf "$4"; mkdir -p "$4/bin"
    cp "$0" "$4/bin/python"
    echo "#!$4/bin/python" >"$4/bin/pip"
    printf '%s\\n' '#!/bin/sh' '{tlx}' >"$4/bin/tlx"; chmod +x "$4/bin/tlx" ;;
  "-m pip")
    for last; do :; done
    case "$*" in *--constraint*) which= ;; *) which=" latest" ;; esac
    note "pip $(basename "$last")$which"
    if [ -n "${{PIP_FAILS:-}}" ]; then echo "no such package" >&2; exit 1; fi ;;
  *) exec '{python}' "$@" ;;
esac
"""

TOLD = 'echo "tlx ran: $*"'
"""A `tlx` that only says what it was given."""

REAL = f'PYTHONPATH="{ROOT}" exec "{sys.executable}" -m tlx.cli "$@"'
"""The `tlx` of this checkout."""


def make_clone(root: Path, tlx: str = TOLD) -> Path:
    """The stand-in for the interpreter, to be named in PYTHON; beside it is `log`.

    Args:
      root: the clone's folder, which is made.
      tlx: the shell command that is installed as `tlx`, without single quotes.
    """
    shutil.copytree(ROOT / "launch", root / "launch")
    for name in ("setup.cfg", "pyproject.toml"):
        shutil.copy(ROOT / name, root / name)
    stand_in = root.parent / "python3"
    log = root.parent / "log"
    stand_in.write_text(STAND_IN.format(log=log, python=sys.executable, tlx=tlx))
    stand_in.chmod(stand_in.stat().st_mode | stat.S_IXUSR)
    return stand_in
