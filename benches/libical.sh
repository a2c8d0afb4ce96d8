#!/usr/bin/env bash
# The benchmark of recurrences with libical beside it (Debian: libical-dev).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

peer=$(mktemp)
# shellcheck disable=SC2064  # the file of now
trap "rm -f '$peer'" EXIT
cc -O2 -o "$peer" benches/libical.c -lical
BEADLE_PEER=$peer cargo bench --bench recurrence
