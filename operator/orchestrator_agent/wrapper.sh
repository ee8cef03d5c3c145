# PID 1 of the user's container: waits at the gate, runs the entrypoint, tells how it ended.
# Usage: sh -c WRAPPER wrapper DEADLINE_SECONDS GRACE_SECONDS ENTRYPOINT...
# Plain POSIX sh, so that any image will do. /job is mounted read-only here: its FIFOs can be
# written to but neither made nor replaced, so nothing starts without the agent.
[ $$ -eq 1 ] || { echo "wrapper: must be PID 1, since it signals every process it sees" >&2; exit 125; }
deadline=$1 grace=$2
shift 2
why=exit code=127 again='' child=''

# Called by the traps below.
# shellcheck disable=SC2329
# Everything in this container but this shell gets SIGTERM, and SIGKILL when the grace is over.
stop() {
  again=1
  [ "$why" = exit ] || return 0
  why=$1
  [ -z "$child" ] || end_all
}
end_all() {
  kill -TERM -1 2>/dev/null
  kill_later 2>/dev/null &
}
# shellcheck disable=SC2329
kill_later() {
  # On EXIT, since a job that holds every process there may be leaves none for `sleep`.
  trap 'kill -KILL -1' EXIT
  exec 3>&-
  sleep "$grace"
}

trap 'exit 143' TERM
job=${ORCHESTRATOR_JOB_FOLDER:-/job}
until [ -p "$job/gate" ]; do sleep 0.05 2>/dev/null || sleep 1; done
# A shell that waits for a child hears SIGTERM; one that waits for a FIFO to open does not. An agent
# that only looks whether somebody waits says no word; one that will not start this job takes `go` away.
(
  while [ -p "$job/go" ]; do read -r _ <"$job/go" && exit; done
  exit 1
) 2>/dev/null &
wait "$!" || exit 143
exec 3>"$job/gate"
# Called by the trap on EXIT, which a shell also comes to that cannot go on: after a fork bomb it
# cannot fork, and ends by itself.
# shellcheck disable=SC2329
finish() {
  # Whatever run.sh left running ends here, so that the results hold still.
  kill -KILL -1 2>/dev/null
  # A hint only: on cgroup v1 the kernel kills one process, not the container.
  oom=0
  for counter in /sys/fs/cgroup/memory.events /sys/fs/cgroup/memory/memory.oom_control; do
    [ -r "$counter" ] && while read -r key value; do
      [ "$key" = oom_kill ] && oom=$value
    done <"$counter"
  done
  # On a line of its own, whatever the job has begun there.
  echo "
$why $code $oom" >&3
}
trap finish EXIT
trap 'stop terminated' TERM
trap 'stop deadline' USR1
trap 'stop disk' USR2
# What a job could write to through /proc/1/fd: the container's own log, past every limit of the
# agent's.
exec >/dev/null 2>&1
echo start >&3
# The agent, which measures the job's disk, writes a word here when there is too much, or when the
# pod is to end: a SIGTERM that came before the traps was lost. Any other word is the job's. Opened both
# ways, so that it does not end with the first who writes.
(
  exec 3>&- 4<>"$job/stop"
  while read -r word <&4; do
    case $word in
      end) kill -TERM 1; break ;;
      disk) kill -USR2 1; break ;;
    esac
  done
) 2>/dev/null &
# The job comes behind this shell within their share of the processor, and so loses nothing; else a
# fork bomb would let this shell act only after minutes.
behind=$(command -v nice) && behind="$behind -n 19"
# shellcheck disable=SC2086
$behind "$@" 3>&- </dev/null >"$job/log" 2>&1 &
child=$!
# A trap that ran before the line above must not have started anything, or that would be `$!`.
[ "$why" = exit ] || end_all
(exec 3>&-; sleep "$deadline" && kill -USR1 1) 2>/dev/null &

# A signal interrupts `wait`; then wait again for the exit code proper.
while :; do
  again=
  wait "$child"
  got=$?
  [ "$got" -eq 127 ] || code=$got
  [ -n "$again" ] || break
done
exit "$code"
