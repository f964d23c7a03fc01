#!/bin/sh
# Install what the benchmarks are compared with: `sh scripts/peers.sh [torch] [tunix]`, both by default.
#
# Each peer has its own virtual environment, .venv-peers-NAME, because their pins agree neither with
# ours nor with each other. The stamp is written last: what was cut short is built anew, what is
# finished is only checked. TORCH_PYTHON and TUNIX_PYTHON override the interpreters.
set -eu

cd "$(dirname "$0")/.."
root=$(pwd -P)
log=.cache/peers.log

say() { printf 'peers: %s\n' "$*"; }
die() {
    printf 'peers: %s\n' "$*" >&2
    exit 1
}

is_python_311() {
    "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info[:2] != (3, 11))' \
        2>/dev/null </dev/null
}

find_python_311() { # a pyenv shim that cannot start may come before an interpreter that can
    if [ -n "${TORCH_PYTHON:-}" ]; then
        is_python_311 "$TORCH_PYTHON" ||
            die "TORCH_PYTHON=$TORCH_PYTHON is no Python 3.11 with venv; set another or leave it out"
        echo "$TORCH_PYTHON"
        return
    fi
    for versions in "${PYENV_ROOT:+$PYENV_ROOT/versions}" "${HOME:+$HOME/.pyenv/versions}"; do
        [ -d "$versions" ] || continue
        for binary in "$versions"/3.11*/bin/python3.11; do
            if [ -x "$binary" ] && is_python_311 "$binary"; then
                echo "$binary"
                return
            fi
        done
    done
    set -f # PATH entries are taken as they are
    IFS=:
    for folder in ${PATH:-}; do
        if [ -x "$folder/python3.11" ] && is_python_311 "$folder/python3.11"; then
            echo "$folder/python3.11"
            return
        fi
    done
    die "no Python 3.11 with venv under ~/.pyenv/versions or on PATH, and the pinned torch needs it;" \
        "install it ('pyenv install 3.11'), set TORCH_PYTHON, or 'sh scripts/peers.sh tunix' alone"
}

find_python() { # find_python NAME
    case $1 in
    torch) find_python_311 ;;
    tunix) PYTHON=${TUNIX_PYTHON:-} sh scripts/find_python.sh ;;
    esac
}

fingerprint() { # a finished installation: these pins, in this folder, with a Python that starts
    cksum <"requirements/peers-$1.txt"
    printf '%s\n' "$root"
    ".venv-peers-$1/bin/python" -c 'import sys; print(sys.version, sys.base_prefix)' 2>/dev/null
}

is_done() {
    [ -f ".venv-peers-$1/r1ci-stamp" ] &&
        [ "$(fingerprint "$1")" = "$(cat ".venv-peers-$1/r1ci-stamp")" ]
}

install() { # install NAME INTERPRETER
    venv=.venv-peers-$1
    say "installing $venv from requirements/peers-$1.txt with $2 (one to five minutes; log: $log)"
    rm -rf "$venv"
    "$2" -m venv "$venv" >>"$log" 2>&1 || die "could not make $venv (log: $log)"
    "$venv/bin/python" -m pip --disable-pip-version-check --no-input install \
        -r "requirements/peers-$1.txt" >>"$log" 2>&1 </dev/null || {
        grep -E '^(ERROR|error)' "$log" | tail -n 3 >&2 || true
        die "pip failed (log: $log); with a network and 4 GB of free disk space, run this again"
    }
    fingerprint "$1" >"$venv/r1ci-stamp.new"
    mv "$venv/r1ci-stamp.new" "$venv/r1ci-stamp"
}

[ $# -gt 0 ] || set -- torch tunix
wanted=
for name in "$@"; do # every interpreter is found before anything is downloaded
    case $name in torch | tunix) ;; *) die "unknown peer '$name'; choose torch, tunix or both" ;; esac
    is_done "$name" && continue
    interpreter=$(find_python "$name") || exit 1
    wanted="$wanted $name"
    eval "python_$name=\$interpreter"
done
[ -n "$wanted" ] || exit 0

mkdir -p .cache
: >"$log"
for name in $wanted; do
    eval "interpreter=\$python_$name"
    install "$name" "$interpreter"
done
say "done"
