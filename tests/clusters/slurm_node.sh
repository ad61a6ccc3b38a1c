#!/usr/bin/env bash
# A real Slurm of one node on this machine, from Debian's packages, in a folder of its own.
#
#   bash tests/clusters/slurm_node.sh start DIR    makes it, and returns when the node is idle
#   source DIR/env                                 sbatch, squeue, … then speak to this Slurm
#   bash tests/clusters/slurm_node.sh status DIR   its nodes, jobs and daemons
#   bash tests/clusters/slurm_node.sh stop DIR     cancels all jobs and ends the daemons
#
# The packages are downloaded and unpacked in DIR, not installed: nothing of the system changes, no
# root is needed, and deleting DIR after `stop` leaves nothing. munged, slurmctld and slurmd run in
# the background on 127.0.0.1, on free ports, as the user who starts them; what they say is in
# DIR/log. Needs Debian or Ubuntu with its package lists, and python3; takes five seconds.
#
# The node is "localhost" and has two CPUs, however many the machine has; CPUs are shared out,
# memory and GPUs are not. There is no accounting: ask scontrol and squeue, which remember a job
# that is done for an hour. A job that is requeued waits for five seconds, not for Slurm's two
# minutes, and one that is to end has two minutes to save, not half of one, on a busy machine. Jobs
# run in the partition "main"; one in "urgent" takes their place, and they are requeued.
set -euo pipefail

HERE=tests/clusters/slurm_node.sh
WANTED=(slurmctld slurmd slurm-client slurm-wlm-basic-plugins munge)

die() {
  echo "$*" >&2
  exit 1
}

# The wanted packages and those of their dependencies that this system lacks, unpacked in DIR/root.
unpack() {
  local names package
  command -v apt-get >/dev/null || die "needs Debian's or Ubuntu's packages: there is no apt-get"
  names=$({
    printf '%s\n' "${WANTED[@]}"
    apt-get --simulate --no-install-recommends install "${WANTED[@]}" | awk '/^Inst/ { print $2 }'
  } | sort -u) || return 1
  mkdir -p "$dir/packages" "$dir/root"
  # shellcheck disable=SC2086  # one word a package
  (cd "$dir/packages" && apt-get -qq -o APT::Sandbox::User=root download $names) || return 1
  for package in "$dir"/packages/*.deb; do dpkg --extract "$package" "$dir/root"; done
}

# Three lines that the shell sources, or another program reads as NAME=VALUE after "export ".
write_env() {
  local library
  library=$(dirname "$(find "$dir/root/usr/lib" -name slurm-wlm -type d)")
  cat >"$dir/env" <<END
export SLURM_CONF=$dir/slurm.conf
export PATH=$dir/root/usr/bin:$PATH
export LD_LIBRARY_PATH=$library:$library/slurm-wlm
END
}

write_conf() {
  local host user ports
  host=$(hostname -s)
  user=$(id -un)
  ports=$(python3 -c '
import socket
found = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
print(*(s.getsockname()[1] for s in found))')
  cat >"$dir/slurm.conf" <<END
ClusterName=one_node
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=${ports% *}
SlurmdPort=${ports#* }
SlurmUser=$user
SlurmdUser=$user
AuthType=auth/munge
AuthInfo=socket=$dir/munge.socket,cred_expire=5
PluginDir=$(find "$dir/root/usr/lib" -name slurm-wlm -type d)
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MailProg=/bin/true
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
SchedulerParameters=bf_interval=5
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
MinJobAge=3600
KillWait=120
NodeName=localhost NodeHostname=$host NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES PriorityTier=1
PartitionName=urgent Nodes=ALL PriorityTier=2 PreemptMode=OFF
END
}

# A daemon that stays when this script ends; its process is noted in DIR/pids.
daemon() {
  local name=$1
  shift
  setsid "$@" >"$dir/log/$name" 2>&1 </dev/null &
  echo "$! $name" >>"$dir/pids"
}

# Whether a process that was noted still is the daemon: its command names DIR, another's would not.
is_ours() { tr '\0' ' ' 2>/dev/null <"/proc/$1/cmdline" | grep -qF "$dir/"; }

start() {
  [ ! -e "$dir/pids" ] || die "there is a Slurm in $dir: first bash $HERE stop $dir"
  mkdir -p "$dir/log" "$dir/state" "$dir/spool"
  [ -d "$dir/root" ] || unpack || { apt-get -qq update && unpack; } ||
    die "Slurm's packages could not be had: apt's message is above"
  write_env
  write_conf
  # shellcheck disable=SC1091  # written above
  source "$dir/env"
  (umask 077 && head -c 1024 /dev/urandom >"$dir/munge.key")
  # --force: a folder that only its owner may enter is fine, as all daemons are this user's
  daemon munged "$dir/root/usr/sbin/munged" --foreground --force --num-threads=2 \
    --socket="$dir/munge.socket" --key-file="$dir/munge.key" --pid-file="$dir/munged.pid" \
    --log-file="$dir/log/munged.more" --seed-file="$dir/munge.seed"
  until_true 100 test -S "$dir/munge.socket"
  daemon slurmctld "$dir/root/usr/sbin/slurmctld-wlm" -D -i
  daemon slurmd "$dir/root/usr/sbin/slurmd-wlm" -D -N localhost \
    -d "$dir/root/usr/sbin/slurmstepd-wlm"
  until_true 300 idle || { stop; die "the node did not become idle: see $dir/log"; }
}

idle() { [ "$(sinfo --noheader --format=%T 2>/dev/null | sort -u)" = idle ]; }
empty() { [ -z "$(squeue --noheader 2>/dev/null)" ]; }
gone() { ! is_ours "$1"; }

# Tries a command ten times a second, COUNT times at most.
until_true() {
  local left=$1
  shift
  until "$@"; do
    left=$((left - 1))
    [ "$left" -gt 0 ] || return 1
    sleep 0.1
  done
}

stop() {
  local pid name
  [ -e "$dir/pids" ] || die "there is no Slurm in $dir"
  # shellcheck disable=SC1091
  source "$dir/env"
  squeue --noheader --format=%A 2>/dev/null | sort -u | xargs --no-run-if-empty scancel || true
  until_true 1350 empty || echo "some jobs did not end: see $dir/log" >&2 # killed by then
  # the last started goes first
  tac "$dir/pids" | while read -r pid name; do
    if ! is_ours "$pid"; then continue; fi
    kill "$pid"
    until_true 100 gone "$pid" || { echo "$name ($pid) is killed" >&2 && kill -KILL "$pid"; }
  done
  rm -f "$dir/pids"
}

status() {
  local pid name
  [ -e "$dir/pids" ] || die "there is no Slurm in $dir"
  # shellcheck disable=SC1091
  source "$dir/env"
  while read -r pid name; do
    if is_ours "$pid"; then
      echo "$name runs as process $pid"
    else
      echo "$name has ended: see $dir/log/$name"
    fi
  done <"$dir/pids"
  sinfo
  squeue
}

case "${1:-}" in
  start | stop | status)
    [ $# -eq 2 ] || die "expected a folder, got $# arguments: bash $HERE $1 DIR"
    if [ "$1" = start ]; then mkdir -p "$2"; fi
    dir=$(cd "$2" && pwd -P)
    "$1"
    ;;
  *) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}" ;;
esac
