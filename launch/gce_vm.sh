#!/usr/bin/env bash
# Makes a VM of Compute Engine with GPUs, runs `tlx …` on it over all of them, and deletes it.
#
#   export VM_NAME=my-vm ZONE=us-central1-a
#   bash launch/gce_vm.sh create --machine-type=g2-standard-8 --boot-disk-size=200GB \
#     --image-family=… --image-project=…                    the options are gcloud's
#   bash launch/gce_vm.sh describe                          RUNNING when it is there
#   bash launch/gce_vm.sh run train --config=… --workdir=runs/…
#   bash launch/gce_vm.sh log                               prints on, after a lost connection
#   bash launch/gce_vm.sh stop                              saves and stops; `run` goes on
#   bash launch/gce_vm.sh delete
#   bash launch/gce_vm.sh --dry-run run train …             prints the commands
#
# NOT TRIED ON COMPUTE ENGINE: nobody has run this yet. It was checked by a dry run, its options
# against gcloud's reference, and the command of the host was run on a machine without a GPU.
#
# The image has to bring NVIDIA's driver and Python 3.11 to 3.13 with venv. TLX_JAX chooses the CUDA
# (cuda12), or tpu on a machine type with TPUs of one host. The commit that is checked out goes to
# the VM, not the working tree. With --provisioning-model=SPOT --instance-termination-action=STOP a
# VM is cheaper and stopped at any time, thirty seconds after it is told; a workdir on its disk
# stays. For several machines in one run see launch/gke_jobset.yaml and launch/slurm.sbatch.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
source "$TLX_ROOT/launch/remote.sh"

case "${1:-}" in
  -h | --help) show_header "${BASH_SOURCE[0]}" && exit ;;
  --dry-run) DRY_RUN=1 && shift ;;
esac
[ -n "${VM_NAME:-}" ] && [ -n "${ZONE:-}" ] || die "set VM_NAME and ZONE to those of the VM"
verb=${1:-}
[ $# -eq 0 ] || shift
on_vm() { run gcloud compute ssh "$VM_NAME" --zone="$ZONE" --command="$1"; }

case "$verb" in
  create)
    # a VM with GPUs cannot move to another machine while it runs
    run gcloud compute instances create "$VM_NAME" --zone="$ZONE" \
      --maintenance-policy=TERMINATE "$@"
    ;;
  describe)
    run gcloud compute instances describe "$VM_NAME" --zone="$ZONE" --format='value(status)' ;;
  run)
    [ $# -gt 0 ] || die "say what to run, as in: gce_vm.sh run train --config=… --workdir=…"
    archive="$(mktemp -d)/tlx.tar"
    trap 'rm -rf "$(dirname "$archive")"' EXIT
    make_archive "$archive"
    run gcloud compute scp "$archive" "$VM_NAME:tlx.tar" --zone="$ZONE"
    on_vm "$(remote_run "TLX_JAX=${TLX_JAX:-cuda12}" "$@")"
    ;;
  log) on_vm "$(remote_log)" ;;
  stop) on_vm "$(remote_stop)" ;;
  delete) run gcloud compute instances delete "$VM_NAME" --zone="$ZONE" "$@" ;;
  *) die "expected create, describe, run, log, stop or delete, got '$verb'; see --help" ;;
esac
