#!/usr/bin/env bash
# Builds what beadle is compared with from its registries, and prints ratios from one interleaved
# run: compare.sh [events [rounds [rounds of the scripts]]].
#
# Needs cargo, a C compiler with libical (Debian: libical-dev), python3 with venv, npm, curl, time.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

events=${1:-10000} rounds=${2:-9} slow=${3:-1}
work=${BEADLE_PEERS:-$(pwd)/target/peers}
target=${CARGO_TARGET_DIR:-$(pwd)/target}
mkdir -p "$work/js"

cargo build --release --bin beadle
cargo build --release --manifest-path benches/peers/Cargo.toml --target-dir "$work/rust"
cp "$target/release/beadle" "$work/beadle"
cc -O2 -o "$work/libical" benches/peers/libical.c -lical
[ -d "$work/py" ] || { python3 -m venv "$work/py" && "$work/py/bin/pip" install -q icalendar requests; }
[ -d "$work/js/node_modules" ] || npm install --silent --no-audit --no-fund --prefix "$work/js" node-ical
cp benches/peers/poll.py "$work/" && cp benches/peers/poll.js "$work/js/"
rm -rf "$work"/beadle-plain "$work"/beadle-gz "$work"/{js,py}.json

feed=$work/rust/release/feed
"$feed" "$work/a.ics" "$events" 1
"$feed" "$work/b.ics" "$events" 2

echo "== whole polls, $events events"
python3 benches/peers/compare.py "$work" "$events" "$rounds" "$slow"

echo "== in memory, $events events"
for _ in 1 2 3; do
    cargo bench --quiet --bench calendar -- "$events" 5
    for peer in ical calcard icalendar; do
        echo "$peer, parse and diff: $("$work/rust/release/peers" "$peer" "$work/a.ics" 3 | sort -n | head -1)"
    done
    echo "libical, parse: $("$work/libical" "$work/a.ics" 3 | sort -n | head -1)"
done
