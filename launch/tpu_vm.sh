#!/usr/bin/env bash
# Makes a Cloud TPU VM, runs the same `tlx …` on every host of it, and deletes it.
#
#   export TPU_NAME=my-tpu ZONE=us-west4-a
#   bash launch/tpu_vm.sh create --accelerator-type=v5litepod-16 \
#     --runtime-version=v2-alpha-tpuv5-lite --spot          queued; the options are gcloud's
#   bash launch/tpu_vm.sh describe                          ACTIVE when it is there
#   bash launch/tpu_vm.sh run train --config=… --workdir=/mnt/runs/…
#   bash launch/tpu_vm.sh log                               prints on, after a lost connection
#   bash launch/tpu_vm.sh stop                              saves and stops; `run` goes on
#   bash launch/tpu_vm.sh delete
#   bash launch/tpu_vm.sh --dry-run run train …             prints the commands
#
# NOT TRIED ON A TPU: nobody has run this yet. It was checked by a dry run, its options against
# gcloud's reference, and the command of the hosts was run on a machine without a TPU.
#
# The commit that is checked out goes to the hosts, not the working tree. The workdir has to be on a
# file system that all hosts mount, such as a Filestore share; a bucket (gs://) is none. A host that
# dies ends the run on all: give the same command again and it goes on from the last checkpoint. A
# Spot VM that is preempted is deleted and made anew.
#
# Google no longer develops the Cloud TPU VM API used here: newer TPUs (v6e and later) are made
# through Compute Engine (launch/gce_vm.sh, one host) or GKE (launch/gke_jobset.yaml, any number).
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
source "$TLX_ROOT/launch/remote.sh"

case "${1:-}" in
  -h | --help) show_header "${BASH_SOURCE[0]}" && exit ;;
  --dry-run) DRY_RUN=1 && shift ;;
esac
[ -n "${TPU_NAME:-}" ] && [ -n "${ZONE:-}" ] || die "set TPU_NAME and ZONE to those of the TPU VM"
verb=${1:-}
[ $# -eq 0 ] || shift
queue=(gcloud compute tpus queued-resources)
on_all() {
  run gcloud compute tpus tpu-vm ssh "$TPU_NAME" --zone="$ZONE" --worker="${2:-all}" --command="$1"
}

case "$verb" in
  create) run "${queue[@]}" create "$TPU_NAME" --node-id="$TPU_NAME" --zone="$ZONE" "$@" ;;
  describe) run "${queue[@]}" describe "$TPU_NAME" --zone="$ZONE" ;;
  run)
    [ $# -gt 0 ] || die "say what to run, as in: tpu_vm.sh run train --config=… --workdir=…"
    archive="$(mktemp -d)/tlx.tar"
    trap 'rm -rf "$(dirname "$archive")"' EXIT
    make_archive "$archive"
    run gcloud compute tpus tpu-vm scp "$archive" "$TPU_NAME:tlx.tar" --zone="$ZONE" --worker=all
    # only JAX can find the other hosts, from the metadata of the VM
    on_all "$(remote_run "TLX_JAX=tpu TLX_DISTRIBUTED=1" "$@")"
    ;;
  log) on_all "$(remote_log)" 0 ;;
  stop) on_all "$(remote_stop)" ;;
  delete) run "${queue[@]}" delete "$TPU_NAME" --zone="$ZONE" --force "$@" ;;
  *) die "expected create, describe, run, log, stop or delete, got '$verb'; see --help" ;;
esac
