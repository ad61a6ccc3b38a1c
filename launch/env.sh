# shellcheck shell=bash
# The environment that the launch scripts share: `source` it, then call ensure_env.
#
#   ensure_env EXTRA   makes .venv at the repository's root and installs tlx[EXTRA] into it;
#                      does nothing where that is already so. "test" includes "demo".
#   run COMMAND …      runs a command, or only prints it when DRY_RUN is set.
#   show_header FILE   prints the comment at the top of a script: its --help.
#
# Read from the environment:
#   PYTHON    the interpreter to use (default: the first of 3.13, 3.12, 3.11 that really runs)
#   TLX_JAX   an extra of jax to install with it, for an accelerator: cuda13, cuda12, tpu
#   TLX_LATEST  set: the newest versions that setup.cfg allows, in place of those that were tested
#             together and are in constraints.txt
#   DRY_RUN   print the commands instead of running them

TLX_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
TLX_VENV="$TLX_ROOT/.venv"
TLX_STAMP="$TLX_VENV/tlx-installed"

say() { printf '[tlx] %s\n' "$*" >&2; }

die() {
  say "$*"
  exit 1
}

show_header() { awk 'NR > 1 { if (!/^#/) exit; sub(/^# ?/, ""); print }' "$1"; }

run() {
  if [ -n "${DRY_RUN:-}" ]; then
    printf '%q ' "$@"
    printf '\n'
  else
    "$@"
  fi
}

# Whether an interpreter runs (a version manager's stand-in may not) and has a fitting version.
python_fits() {
  "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
    >/dev/null 2>&1 </dev/null
}

find_python() {
  local candidate
  if [ -n "${PYTHON:-}" ]; then
    python_fits "$PYTHON" || die "PYTHON=$PYTHON is not a Python 3.11, 3.12 or 3.13 that runs"
    echo "$PYTHON"
    return
  fi
  for candidate in python3.13 python3.12 python3.11 python3 python; do
    if python_fits "$candidate"; then
      echo "$candidate"
      return
    fi
  done
  die "found no Python 3.11, 3.12 or 3.13: install one, or name one with PYTHON=/path/to/python3"
}

# What an installation is made from: the packages' declaration and the place (scripts in .venv
# hold absolute paths). Printed by .venv's own interpreter, as not every system has sha256sum.
fingerprint() {
  "$TLX_VENV/bin/python" -I - "$TLX_ROOT" "${TLX_LATEST:-}" <<'PY'
import hashlib, pathlib, sys

seen = hashlib.sha256("\n".join(sys.argv[1:]).encode())
for name in ("setup.cfg", "pyproject.toml", "launch/constraints.txt"):
    seen.update(pathlib.Path(sys.argv[1], name).read_bytes())
print(seen.hexdigest())
PY
}

# Whether .venv is whole, lies where it was made, and is of the version that PYTHON asks for.
venv_fits() {
  local version='import sys; print(sys.version_info[:2])'
  python_fits "$TLX_VENV/bin/python" || return 1
  "$TLX_VENV/bin/python" -c 'import pip' >/dev/null 2>&1 || return 1
  grep -qsF "$TLX_VENV/bin/" "$TLX_VENV/bin/pip" || return 1
  [ -z "${PYTHON:-}" ] || [ "$("$PYTHON" -c "$version")" = "$("$TLX_VENV/bin/python" -c "$version")" ]
}

# Whether the stamp says that this extra, or one that includes it, is installed.
stamp_fits() {
  local print extra jax_extra
  [ -f "$TLX_STAMP" ] || return 1
  read -r print extra jax_extra <"$TLX_STAMP" || return 1
  [ "$print" = "$(fingerprint)" ] || return 1
  [ "$extra" = "$1" ] || [ "$extra" = test ] || return 1
  [ -z "${TLX_JAX:-}" ] || [ "$jax_extra" = "$TLX_JAX" ]
}

make_venv() {
  local python
  python=$(find_python)
  say "making .venv with $("$python" --version)"
  "$python" -m venv --clear "$TLX_VENV" ||
    die "could not make .venv: does this Python lack venv? (on Debian: apt-get install python3-venv)"
}

install_tlx() {
  local -a wanted=()
  if [ -z "${TLX_LATEST:-}" ]; then wanted+=(--constraint "$TLX_ROOT/launch/constraints.txt"); fi
  wanted+=(--editable "${TLX_ROOT}[$1]")
  if [ -n "${TLX_JAX:-}" ]; then wanted+=("jax[$TLX_JAX]"); fi
  rm -f "$TLX_STAMP"
  say "installing tlx[$1]${TLX_JAX:+ and jax[$TLX_JAX]} into .venv (a few minutes the first time)"
  "$TLX_VENV/bin/python" -m pip install -qq --no-input --disable-pip-version-check \
    "${wanted[@]}" </dev/null || die "the installation failed: pip's message is above"
  # last and in one step, so that an interrupted installation is taken up again
  echo "$(fingerprint) $1 ${TLX_JAX:-}" >"$TLX_STAMP.new"
  mv "$TLX_STAMP.new" "$TLX_STAMP"
}

ensure_env() {
  if [ -n "${DRY_RUN:-}" ]; then
    run ensure_env "$1"
    return
  fi
  if [ -n "${PYTHON:-}" ]; then find_python >/dev/null; fi
  if venv_fits && stamp_fits "$1"; then return; fi
  # one after another: the jobs of an array come here at once, on several machines
  exec 9>>"$TLX_ROOT/.venv.lock"
  if command -v flock >/dev/null; then flock 9; fi
  venv_fits || make_venv
  stamp_fits "$1" || install_tlx "$1"
  exec 9>&-
}
