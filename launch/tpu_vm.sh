#!/usr/bin/env bash
# Runs the same `tlx …` on every host of a Cloud TPU VM.
#
# NOT TRIED ON REAL HARDWARE: nobody has run this yet. It was checked with `bash -n` and a dry
# run, and the tests compare what the dry run prints.
#
#   TPU_NAME=my-tpu ZONE=us-central2-b bash launch/tpu_vm.sh train --config=… --workdir=gs://…
#   DRY_RUN=1 TPU_NAME=… ZONE=… bash launch/tpu_vm.sh …     prints the commands
#
# The commit that is checked out goes to the hosts, not the working tree. The workdir has to be
# one that all hosts reach. JAX finds the other hosts by itself. A host that dies ends the run on
# all: start the same command again and it goes on from the last checkpoint.
#
# Google no longer develops the Cloud TPU VM API used here: newer TPUs (v6e and later) are made
# through Compute Engine or GKE. There, do by the tools of that place what this script does: lay
# the commit on every host, then run `TLX_JAX=tpu bash launch/local.sh …` on all of them at once.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"

[ -n "${TPU_NAME:-}" ] && [ -n "${ZONE:-}" ] || die "set TPU_NAME and ZONE to those of the TPU VM"
[ $# -gt 0 ] || die "say what to run, as in: bash launch/tpu_vm.sh train --config=… --workdir=…"

commit=$(git -C "$TLX_ROOT" rev-parse HEAD) || die "the repository has no commit to send"
archive="$(mktemp -d)/tlx.tar"
trap 'rm -rf "$(dirname "$archive")"' EXIT
# quoted once more, since a shell on the host reads them again
command="mkdir -p tlx && tar -xf tlx.tar -C tlx && cd tlx && "
command+="TLX_JAX=tpu bash launch/local.sh$(printf ' %q' "$@")"

say "commit $commit to every host of $TPU_NAME"
run git -C "$TLX_ROOT" archive --output="$archive" "$commit"
run gcloud compute tpus tpu-vm scp "$archive" "$TPU_NAME:tlx.tar" --zone="$ZONE" --worker=all
run gcloud compute tpus tpu-vm ssh "$TPU_NAME" --zone="$ZONE" --worker=all --command="$command"
