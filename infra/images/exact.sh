#!/bin/sh
# Fails when anything is installed in another version than the constraints in file $1 name, or misses what it needs.
set -eu
if pip freeze --exclude fss-masks | grep --invert-match --line-regexp --fixed-strings --file "$1"; then
    echo "these versions are not in $1" >&2
    exit 1
fi
pip check
