#!/usr/bin/env bash
# Runs tlx on this machine: makes .venv once, then passes its arguments on to `tlx`.
#
#   bash launch/local.sh                          the default study, five minutes
#   bash launch/local.sh train --config=…         anything else
#   bash launch/local.sh --dry-run train …        prints the commands
#
# PYTHON chooses the interpreter and TLX_JAX=cuda13 an accelerator: see launch/env.sh.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"

case "${1:-}" in
  -h | --help) show_header "${BASH_SOURCE[0]}" && exit ;;
  --dry-run) DRY_RUN=1 && shift ;;
esac
ensure_env demo
if [ $# -eq 0 ]; then
  cd "$TLX_ROOT"
  set -- study --config=configs/mini.py --workdir=runs/mini
fi
say "tlx $*"
run exec "$TLX_VENV/bin/tlx" "$@"
