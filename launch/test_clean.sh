#!/usr/bin/env bash
# Runs launch/test.sh as on a fresh machine: in a root of Debian's packages made for it, with
# Python, venv, git and certificates in it and nothing else, and with an empty home.
#
#   sudo bash launch/test_clean.sh                everything
#   sudo bash launch/test_clean.sh tests/core     arguments are pytest's, as for launch/test.sh
#
# A clone of the last commit is tried; the tests that were skipped are printed with their reasons.
# Needs root and debootstrap; takes three minutes and 3 GB under TMPDIR beside the tests, and
# leaves nothing. How packages are reached (mirror, index, proxy, certificates, name servers) is
# as apt, pip and the environment have it here.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"

case "${1:-}" in
  -h | --help) show_header "${BASH_SOURCE[0]}" && exit ;;
esac

SUITE=bookworm  # Debian 12, whose Python is the oldest that tlx supports
PACKAGES=python3,python3-venv,git,ca-certificates
CERTIFICATES=/etc/ssl/certs/ca-certificates.crt

# The mirror that apt has here for the suite; none where this is another system.
mirror() {
  { apt-get indextargets --format '$(RELEASE) $(REPO_URI)' 'Created-By: Packages' || true; } \
    2>/dev/null | awk -v suite="$SUITE" '$1 == suite { print $2; exit }'
}

# One of pip's settings, as the environment or its files have it here; folders are left out, since
# the root has none of them.
pip_setting() {
  local variable
  variable=PIP_$(tr 'a-z-' 'A-Z_' <<<"$1")
  { printenv "$variable" || python3 -m pip config get "global.$1" || true; } 2>/dev/null |
    tr -s ' ' '\n' | { grep -v -e '^/' -e '^file:' -e '^$' || true; } | paste -sd ' ' -
}

# What the root needs to reach the packages: no package, home, cache or data of this machine.
carry_network() {
  local file key value
  for file in /etc/resolv.conf /etc/hosts; do cp -L "$file" "$1$file"; done
  if [ -f "$CERTIFICATES" ]; then cp -L "$CERTIFICATES" "$1$CERTIFICATES"; fi
  { apt-config dump || true; } 2>/dev/null |
    grep -E '^Acquire::(https?|Check)' >"$1/etc/apt/apt.conf.d/99network" || true
  echo '[global]' >"$1/etc/pip.conf"
  echo "cert = $CERTIFICATES" >>"$1/etc/pip.conf"
  for key in index-url extra-index-url proxy trusted-host timeout; do
    value=$(pip_setting "$key")
    if [ -n "$value" ]; then echo "$key = $value" >>"$1/etc/pip.conf"; fi
  done
}

# A command in the root: mounts of its own, processes of its own, hardly any environment.
enter() {
  local root=$1 name
  local -a kept=(HOME=/srv/home PATH=/usr/sbin:/usr/bin:/sbin:/bin)
  shift
  for name in http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY TLX_TEST_PROCESSES; do
    if [ -n "${!name:-}" ]; then kept+=("$name=${!name}"); fi
  done
  unshare --mount --pid --fork --kill-child bash -c '
    mount -t proc proc "$0/proc" && mount -t tmpfs tmpfs "$0/dev/shm" && exec chroot "$0" "$@"
  ' "$root" env -i "${kept[@]}" "$@"
}

[ "$(id -u)" -eq 0 ] || die "needs root, to make a root of its own: sudo bash launch/test_clean.sh"
command -v debootstrap >/dev/null || die "needs debootstrap (on Debian: apt-get install debootstrap)"
root=$(mktemp -d)
trap 'rm -rf --one-file-system "$root"' EXIT
say "making a root of Debian $SUITE with $PACKAGES"
# shellcheck disable=SC2046  # none or one word
debootstrap --variant=minbase --include="$PACKAGES" "$SUITE" "$root" $(mirror) \
  >"$root.log" 2>&1 </dev/null || die "debootstrap failed: see $root.log"
rm -f "$root.log"
chmod 755 "$root"
carry_network "$root"
mkdir "$root/srv/home"
git clone --quiet "$TLX_ROOT" "$root/srv/tlx"
say "testing commit $(git -C "$root/srv/tlx" rev-parse HEAD)"
if [ -n "$(git -C "$TLX_ROOT" status --porcelain)" ]; then
  say "uncommitted changes of this checkout are not in it"
fi
enter "$root" bash /srv/tlx/launch/test.sh -rs "$@"
