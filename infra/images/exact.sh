#!/bin/sh
# Fails when anything is installed in another version than the constraints in file $1 name, or misses what it needs.
# A CPU build of torch is the same version: pip freeze marks it with +cpu.
set -eu
if pip freeze --exclude fss-masks | sed 's/+cpu$//' | grep --invert-match --line-regexp --fixed-strings --file "$1"; then
    echo "these versions are not in $1" >&2
    exit 1
fi
pip check
