#!/bin/sh
# Write the API's pages, HTML from the docstrings: `sh scripts/api_pages.sh [FOLDER]`, by default
# build/api. The commands are left out. A module that cannot be imported, or a warning, is an error.
set -eu

cd "$(dirname "$0")/.."
folder=${1:-build/api}
# pdoc shows the annotations that it cannot resolve, those with type parameters, as they are written.
JAX_PLATFORMS=cpu .venv/bin/python -W error::UserWarning \
    -W "ignore:Error parsing type annotation:UserWarning" \
    -W "ignore:Failed to run TYPE_CHECKING code:UserWarning" \
    -m pdoc --docformat google --no-show-source --footer-text "r1ci_jax" \
    --output-directory "$folder" r1ci_jax '!r1ci_jax.__main__' '!r1ci_jax.cli'
printf 'API pages: %s/index.html\n' "$folder"
