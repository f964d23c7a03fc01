#!/bin/sh
# Print the path of a CPython >= 3.12 that really starts and can make virtual environments.
#
# PYTHON=... is taken or refused, never replaced. Otherwise every directory of PATH is tried for
# every name, because a pyenv shim that cannot start may come before an interpreter that can; then
# pyenv's installed versions. 3.12 comes first: the pinned packages were chosen on it.
set -u

# The answer is the base interpreter, so that an activated virtual environment (perhaps the very
# one that is about to be rebuilt) is never built upon.
probe='
import sys, sysconfig, venv, ensurepip
ensurepip.version()
standard = sys.implementation.name == "cpython" and not sysconfig.get_config_var("Py_GIL_DISABLED")
if sys.version_info < (3, 12) or not standard:
    sys.exit(1)
print(getattr(sys, "_base_executable", None) or sys.executable)
'

try() { # try COMMAND: print its interpreter and succeed, when it is usable
    answer=$("$1" -c "$probe" 2>/dev/null </dev/null) && [ -n "$answer" ] && printf '%s\n' "$answer"
}

if [ -n "${PYTHON:-}" ]; then
    try "$PYTHON" && exit 0
    echo "r1ci set-up: PYTHON=$PYTHON does not start, is older than 3.12 or lacks venv;" \
        "set PYTHON to another interpreter or leave it out" >&2
    exit 1
fi

set -f # PATH entries are taken as they are
for name in python3.12 python3.13 python3.14 python3 python; do
    old_ifs=$IFS
    IFS=:
    for folder in ${PATH:-}; do
        IFS=$old_ifs
        [ -x "$folder/$name" ] && try "$folder/$name" && exit 0
    done
    IFS=$old_ifs
done
set +f

for versions in "${PYENV_ROOT:+$PYENV_ROOT/versions}" "${HOME:+$HOME/.pyenv/versions}"; do
    [ -d "$versions" ] || continue
    for minor in 12 13 14; do
        for binary in "$versions"/3.$minor*/bin/python3.$minor; do
            [ -x "$binary" ] && try "$binary" && exit 0
        done
    done
done

echo "r1ci set-up: found no Python >= 3.12 that starts and has venv (on PATH and under" \
    "~/.pyenv/versions); install python3.12 and python3.12-venv with your package manager or run" \
    "'pyenv install 3.12', or set PYTHON=/path/to/python3.12" >&2
exit 1
