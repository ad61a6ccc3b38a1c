#!/usr/bin/env bash
# Builds the documentation: docs/_build/html/index.html, which opens without a server.
#
#   bash launch/docs.sh          every page; notebooks are run, and the default study before them
#                                where runs/mini does not have it (five minutes)
#   bash launch/docs.sh --fast   without what is run, in a minute: what the checks do
#
# A warning fails the build, and so does an error in a notebook.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"

case "${1:-}" in
  "" | --fast) ;;
  -h | --help)
    sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"
    exit 0
    ;;
  *) die "unknown argument: $1; see the header of launch/docs.sh" ;;
esac
ensure_env test # notebooks use every framework
cd "$TLX_ROOT"
options=(--fail-on-warning --keep-going --quiet -b html)
if [ "${1:-}" = --fast ]; then
  options+=(-D nb_execution_mode=off)
else
  run "$TLX_VENV/bin/tlx" study --config=configs/mini.py --workdir=runs/mini
fi
run "$TLX_VENV/bin/sphinx-build" "${options[@]}" docs docs/_build/html
say "the site: $TLX_ROOT/docs/_build/html/index.html"
