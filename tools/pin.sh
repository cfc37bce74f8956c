#!/bin/sh
# Writes the pinned, hashed requirement files from the ranges in sdk/python/pyproject.toml.
# Versions already pinned stay unless asked otherwise:
#
#   sh tools/pin.sh [--upgrade | --upgrade-package NAME]
#
# One file serves every platform and every Python >= 3.11. Needs uv, which the environment of the tests has.

set -eu
cd -- "$(CDPATH='' cd -- "$(dirname -- "$0")/../sdk/python" && pwd -P)"

PATH=$PATH:$PWD/../../.venv/bin
command -v uv >/dev/null || {
    echo 'tools/pin.sh: needs uv: pip install uv, or make the environment of the tests' >&2
    exit 1
}

# pin FILE [uv arguments]
pin() {
    file=$1
    shift
    uv pip compile --universal --python-version 3.11 --generate-hashes \
        --no-header --no-annotate --no-emit-index-url --no-emit-find-links \
        --quiet --output-file "$file" "$@"
    echo "$file: $(grep -c == "$file") packages"
}

# The tests' pins are a superset of the others, so that one environment can serve both.
pin requirements/runtime.txt pyproject.toml --group build "$@"
pin requirements/test.txt pyproject.toml --group test --constraint requirements/runtime.txt "$@"
# The oldest of what the ranges take. Always anew: a pin that stayed would hide a bound that was lowered.
pin requirements/lowest.txt pyproject.toml --group lowest --resolution lowest-direct --upgrade
# What the benchmarks compare with is never in the same environment.
pin ../../benchmarks/requirements.txt --group bench "$@"
