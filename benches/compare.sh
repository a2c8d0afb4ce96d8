#!/usr/bin/env bash
# Every speed and memory goal as one table of ratios, beside what beadle is compared with:
#
#     compare.sh [events [rounds [rounds of the scripts]]]
#
# Interleaved where it matters, so that only the ratios count. Builds the others from their
# registries into a cache (BEADLE_PEERS_CACHE, else target/peers); what cannot be had is left out
# with a note. Needs cargo, curl and python3; better with a C compiler and libical (Debian:
# libical-dev), npm, and GNU time.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

events=${1:-10000} rounds=${2:-9} slow=${3:-1}
work=${BEADLE_PEERS_CACHE:-$(pwd)/target/peers}
target=${CARGO_TARGET_DIR:-$(pwd)/target}
mkdir -p "$work/js"
note() { echo "left out: $*"; }

cargo build --release --bin beadle
cp "$target/release/beadle" "$work/beadle"
cargo build --release --manifest-path benches/peers/Cargo.toml --target-dir "$work/rust"

peers=
if cc -O2 -o "$work/libical" benches/peers/libical.c -lical &&
    cc -O2 -o "$work/recur" benches/peers/recur.c -lical; then
    peers="libical=$work/recur"
else
    note "libical: no compiler, or no libical-dev"
fi
if [ -x "$work/py/bin/python" ] || { python3 -m venv "$work/py" &&
    "$work/py/bin/pip" install -q icalendar requests recurring-ical-events; }; then
    peers="$peers;recurring-ical-events=$work/py/bin/python benches/peers/recur.py"
else
    note "Python's icalendar and recurring-ical-events"
    rm -rf "$work/py"
fi
if [ -d "$work/js/node_modules/node-ical" ] ||
    npm install --silent --no-audit --no-fund --prefix "$work/js" node-ical; then
    peers="$peers;node-ical=node $work/js/recur.js"
else
    note "node-ical"
fi
cp benches/peers/poll.py "$work/"
cp benches/peers/poll.js benches/peers/recur.js "$work/js/"
rm -rf "$work"/beadle-* "$work"/{js,py}.json

feed=$work/rust/release/feed
"$feed" "$work/a.ics" "$events" 1
"$feed" "$work/b.ics" "$events" 2
"$feed" "$work/short.ics" $((events / 10)) 1
"$feed" "$work/long.ics" $((events / 10)) 1 10

echo "== goals 1, 2, 5: whole polls, $events events"
python3 benches/peers/compare.py "$work" "$events" "$rounds" "$slow"

echo "== goals 3, 4: in memory, $events events"
cargo bench --quiet --bench calendar -- "$events" 9 "$work"

echo "== goal 6: 10,000 recurring events"
BEADLE_PEERS=$peers cargo bench --quiet --bench recurrence
