# shellcheck shell=bash
# What launch/tpu_vm.sh and launch/gce_vm.sh do alike: `source` it after env.sh.
#
#   make_archive FILE          the commit that is checked out, not the working tree
#   remote_run SETTINGS WORDS  the command by which a host unpacks it and runs `tlx WORDS`, in the
#                              background, so that a lost connection ends the printing alone
#   remote_log, remote_stop    the commands that print on, and that ask it to save and stop

make_archive() {
  local commit
  commit=$(git -C "$TLX_ROOT" rev-parse HEAD) || die "the repository has no commit to send"
  say "commit $commit to every host"
  run git -C "$TLX_ROOT" archive --output="$1" "$commit"
}

remote_run() {
  local settings=$1
  shift
  printf '%s' 'mkdir -p tlx && tar -xf tlx.tar -C tlx && cd tlx && '
  printf '%s' "{ $settings nohup bash launch/local.sh"
  # quoted once more, since a shell on the host reads them again
  printf ' %q' "$@"
  # shellcheck disable=SC2016  # the host's
  printf '%s' ' >tlx-run.log 2>&1 </dev/null & } && echo $! >tlx-run.pid && ' \
    'tail --pid=$! -n +1 -F tlx-run.log; wait $!'
}

remote_log() { printf 'tail -n +1 -F tlx/tlx-run.log'; }
# shellcheck disable=SC2016
remote_stop() { printf 'kill -TERM "$(cat tlx/tlx-run.pid)"'; }
