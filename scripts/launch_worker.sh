#!/bin/sh
# Commands of `r1ci launch` on a worker, run in the root of the shipped code.
#
#   setup             install Python, packages, nsjail and the jail's Python; safe to repeat
#   start COMMAND...  start the job in the background, where it survives the connection
#   job COMMAND...    run the job here; a command that exits 75 is restarted
#   all COMMAND...    setup, then job
#   follow            show the job's log until it ends; exits as the job did
#   wait              the same, but show only the end of the log, and only when the job failed
#   stop              SIGTERM: the command saves a checkpoint and is not restarted
#
# Environment: R1CI_RESTARTS (how often a command that exits 75 is restarted), R1CI_EXTRAS
# (extras of setup.py, with commas), R1CI_UNSAFE (no jails needed), R1CI_FETCH (download the
# published questions). The job sees all of it.
set -eu

cd "$(dirname "$0")/.."
state=.job
resume_exit_status=75 # SIGTERM, or another worker was lost (r1ci_jax/errors.py)
no_status=70 # ended without a status

say() { printf 'r1ci worker: %s\n' "$*" >&2; }
die() {
    say "$@"
    exit 1
}

# ---- set-up --------------------------------------------------------------------------------------

# The images of TPU machines are Ubuntu 22.04 with Python 3.10, and the packages need 3.12.
provide_python() {
    sh scripts/find_python.sh >/dev/null 2>&1 && return
    sudo=
    [ "$(id -u)" = 0 ] || sudo="sudo -n"
    say "installing Python 3.12 from ppa:deadsnakes/ppa"
    $sudo add-apt-repository -y ppa:deadsnakes/ppa >/dev/null &&
        $sudo apt-get update -q >/dev/null &&
        $sudo apt-get install -y -q python3.12 python3.12-venv python3.12-dev gcc >/dev/null ||
        die "found no Python >= 3.12 and could not install one: put one on PATH"
}

# Without the extra, JAX would train on the processors of a machine with a GPU, without a word.
sees_its_gpu() {
    case ${JAX_PLATFORMS:-} in *cpu*) return ;; esac
    nvidia-smi >/dev/null 2>&1 || return 0
    .venv/bin/python -c 'import sys, jax; sys.exit(jax.default_backend() != "gpu")' >&2
}

setup() {
    provide_python
    sh scripts/bootstrap.sh
    if [ -n "${R1CI_EXTRAS:-}" ]; then
        say "installing r1ci_jax[$R1CI_EXTRAS]"
        .venv/bin/python -m pip --disable-pip-version-check --no-input install -q \
            -c requirements.txt -e ".[$R1CI_EXTRAS]"
    fi
    sees_its_gpu ||
        die "nvidia-smi shows a GPU that JAX does not see: launch with --extras cuda, or, to use" \
            "the processors, with --env JAX_PLATFORMS=cpu"
    [ -n "${R1CI_UNSAFE:-}" ] || .venv/bin/r1ci sandbox doctor
    [ -z "${R1CI_FETCH:-}" ] || .venv/bin/r1ci data fetch
}

# ---- the job -------------------------------------------------------------------------------------

# By its name as well: after a reboot the number may be somebody else's.
is_running() { grep -qs launch_worker.sh "/proc/$(cat $state/pid 2>/dev/null)/cmdline"; }

start() {
    # New code is not unpacked over a running job, so one that runs is this launch's: gcloud sends a
    # command again when the connection broke after it.
    if is_running; then
        say "started before on $(hostname)"
        return
    fi
    mkdir -p $state
    rm -f $state/status
    setsid sh scripts/launch_worker.sh job "$@" >$state/log 2>&1 </dev/null &
    echo $! >$state/pid
    say "started on $(hostname): $*"
}

pass_on() { # the trap of SIGTERM
    stopped=1
    interrupted=1
    [ -z "$child" ] || kill -TERM "$child" 2>/dev/null || true
}

job() {
    # Weights are downloaded once, also when the code is shipped anew.
    HF_HOME=${HF_HOME:-$(dirname "$PWD")/huggingface}
    PATH=$PWD/.venv/bin:$PATH
    export HF_HOME PATH
    child=
    stopped=
    restarts=0
    mkdir -p $state
    trap pass_on TERM INT
    while :; do
        "$@" &
        child=$!
        interrupted=1
        while [ -n "$interrupted" ]; do # a trapped signal ends `wait` before the command has ended
            interrupted=
            status=0
            wait $child || status=$?
        done
        child=
        [ $status = $resume_exit_status ] && [ -z "$stopped" ] || break
        [ $restarts -lt "${R1CI_RESTARTS:-0}" ] || break
        restarts=$((restarts + 1))
        say "the command exited $status: restart $restarts of $R1CI_RESTARTS"
        sleep 10
        [ -z "$stopped" ] || break
    done
    echo $status >$state/status
    case $status in
    0) say "the command has ended well" ;;
    "$resume_exit_status") say "the command exited $status: launch again to resume" ;;
    *) say "the command failed with exit status $status; the lines above say why" ;;
    esac
    exit $status
}

# ---- looking on ----------------------------------------------------------------------------------

# Exit as the job did.
end_as_it_did() {
    [ -s $state/status ] || say "the job on $(hostname) ended without a status: killed, or rebooted"
    exit "$(cat $state/status 2>/dev/null || echo $no_status)"
}

follow() {
    [ -s $state/pid ] || die "no job was started here"
    tail -n +1 -f --pid="$(cat $state/pid)" $state/log
    end_as_it_did
}

wait_for() {
    [ -s $state/pid ] || die "no job was started here"
    while is_running; do sleep 5; done
    if [ "$(cat $state/status 2>/dev/null || echo $no_status)" != 0 ]; then
        say "end of the log on $(hostname):"
        tail -n 20 $state/log >&2
    fi
    end_as_it_did
}

stop() {
    is_running || {
        say "nothing runs here"
        return
    }
    kill -TERM "$(cat $state/pid)"
    say "sent SIGTERM to the job on $(hostname)"
}

verb=${1:-}
[ $# = 0 ] || shift
case $verb in
setup) setup ;;
start) start "$@" ;;
job) job "$@" ;;
all)
    setup
    job "$@"
    ;;
follow) follow ;;
wait) wait_for ;;
stop) stop ;;
*) die "unknown command '$verb'; the head of scripts/launch_worker.sh lists them" ;;
esac
