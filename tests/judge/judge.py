#!/usr/bin/env python3
"""Compares `beadle events` with Python's recurring-ical-events, file by file.

    tests/judge/judge.py [--beadle PROGRAM] [--windows N] [FILE.ics | FOLDER]...

Without files it reads the test calendars of recurring-ical-events itself, out of the source
archive of the version below, and the odd ones in calendars/ beside this script. The packages are installed into a folder of their own under the
cache directory; nothing is left in the repository.

Each file is asked about several windows, all given in UTC. Both answers become sets of
(UID, start, end, title): instants in UTC, dates as dates. A file agrees when the sets are equal
in every window. A file that does not must stand in differences.md beside this script, with the
section of the RFC that says why; any other difference, or a line there that is no longer true,
makes the script fail.
"""

import argparse
import datetime as dt
import json
import os
import re
import subprocess
import sys
import tarfile
import venv
from collections import Counter
from pathlib import Path

PACKAGES = [
    "recurring-ical-events==3.8.2",
    "icalendar==7.3.0",
    "python-dateutil==2.9.0.post0",
    "x-wr-timezone==2.0.1",
    "tzdata==2026.6",
]
HERE = Path(__file__).resolve().parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "beadle-judge"


def set_up():
    """Runs this script again with the packages in reach; returns the folder of calendars."""
    home = CACHE / re.sub(r"[^\w.]+", "-", PACKAGES[0])
    python = home / "bin" / "python"
    if not (home / "ready").exists():
        venv.create(home, with_pip=True, clear=True)
        pip = [str(python), "-m", "pip", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "install", *PACKAGES], check=True)
        source = ["download", "--no-deps", "--no-binary", ":all:", "--dest", str(home)]
        subprocess.run([*pip, *source, PACKAGES[0]], check=True)
        with tarfile.open(next(home.glob("*.tar.gz"))) as archive:
            members = [m for m in archive if m.isfile() and "/calendars/" in m.name]
            for member in members:
                member.name = Path(member.name).name
            archive.extractall(home / "calendars", members, filter="data")
        (home / "ready").touch()
    if Path(sys.prefix).resolve() != home.resolve():
        os.execv(python, [str(python), *sys.argv])
    return home / "calendars"


def utc(value):
    """A date as a date, anything else as an instant; a time without a zone is read in UTC."""
    if not isinstance(value, dt.datetime):
        return value.isoformat()
    if value.tzinfo is None:
        value = value.replace(tzinfo=dt.timezone.utc)
    return value.astimezone(dt.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def one_line(text):
    return " ".join(str(text or "").split())


def peer(query, start, end):
    """The answer of recurring-ical-events."""
    answer = Counter()
    for event in query.between(start, end):
        begins = event["DTSTART"].dt
        ends = event["DTEND"].dt if "DTEND" in event else begins
        title = one_line(event.get("SUMMARY"))
        answer[(one_line(event.get("UID")), utc(begins), utc(ends), title)] += 1
    return answer


# The peer could not read a file; nothing can be said of it.
UNREAD = "not read by the peer"
# What beadle calls an event without a UID.
DERIVED = re.compile(r"^beadle-[0-9a-f]{16}$")


def ours(program, path, start, end):
    """The answer of beadle, and what it warned of."""
    stamp = "%Y-%m-%dT%H:%M:%SZ"
    command = [program, "events", str(path), "--format", "json"]
    command += ["--from", start.strftime(stamp), "--to", end.strftime(stamp)]
    run = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "TZ": "UTC"}, timeout=60
    )
    if run.returncode != 0:
        raise RuntimeError(run.stderr.strip())
    answer = Counter()
    for line in run.stdout.splitlines():
        event = json.loads(line)
        uid = DERIVED.sub("", event["uid"])
        answer[uid, event["start"], event["end"], one_line(event["summary"])] += 1
    return answer, run.stderr


def windows(calendars, count):
    """Windows about the dates that the events name, without asking either side."""
    starts = []
    for calendar in calendars:
        for event in calendar.walk("VEVENT"):
            try:
                start = event["DTSTART"].dt
            except (KeyError, AttributeError, ValueError):
                continue
            starts.append(dt.datetime(start.year, start.month, start.day, tzinfo=dt.timezone.utc))
    if not starts:
        starts = [dt.datetime(2020, 1, 1, tzinfo=dt.timezone.utc)]
    first, last = min(starts), max(starts)
    day = dt.timedelta(days=1)
    spans = [
        (first - 7 * day, first + 30 * day),
        (first, first + day),
        (first + dt.timedelta(hours=10), first + dt.timedelta(hours=34)),
        (first + 300 * day, first + 400 * day),
        (first - day, max(last, first) + 400 * day),
        (last - 2 * day, last + 40 * day),
        (first + 5 * 365 * day, first + 5 * 365 * day + 60 * day),
    ]
    return [(max(a, dt.datetime(1, 1, 9, tzinfo=a.tzinfo)), b) for a, b in spans][:count]


def compare(program, path, count):
    """How a file fares, and what differs in it."""
    import icalendar
    import recurring_ical_events

    if b"BEGIN:VCALENDAR" not in path.read_bytes().upper():
        return "is no calendar", ""
    try:
        calendars = icalendar.Calendar.from_ical(path.read_bytes(), multiple=True)
        queries = [recurring_ical_events.of(c, skip_bad_series=True) for c in calendars]
        spans = windows(calendars, count)
    except Exception as error:  # noqa: BLE001  whatever a peer raises
        return UNREAD, f"{type(error).__name__}: {one_line(error)[:80]}"
    for start, end in spans:
        theirs = Counter()
        try:
            for query in queries:
                theirs += peer(query, start, end)
        except Exception as error:  # noqa: BLE001
            return UNREAD, f"{type(error).__name__}: {one_line(error)[:80]}"
        try:
            mine, _ = ours(program, path, start, end)
        except (RuntimeError, subprocess.TimeoutExpired) as error:
            return "differs", f"beadle fails: {one_line(error)[:200]}"
        if mine != theirs:
            span = f"{start:%Y-%m-%d %H:%M}/{end:%Y-%m-%d %H:%M}"
            lines = [f"{span}: beadle {mine.total()}, peer {theirs.total()}"]
            lines += [f"  + {' | '.join(key)}" for key in sorted((mine - theirs).elements())[:4]]
            lines += [f"  - {' | '.join(key)}" for key in sorted((theirs - mine).elements())[:4]]
            return "differs", "\n    ".join(lines)
    return "agrees", ""


def explained():
    """The files that may differ, from the first columns of the tables."""
    rows = (HERE / "differences.md").read_text().splitlines()
    cells = [row.split("|")[1] for row in rows if row.startswith("| `")]
    return {name for cell in cells for name in re.findall(r"`([^`]+\.ics)`", cell)}


def is_explained(path, known):
    """Files of a corpus that is not read by default stand there with its folder."""
    return path.name in known or f"{path.parent.name}/{path.name}" in known


def main():
    calendars = set_up()
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    target = Path(os.environ.get("CARGO_TARGET_DIR", HERE.parents[1] / "target"))
    parser.add_argument("--beadle", default=str(target / "debug" / "beadle"))
    parser.add_argument("--windows", type=int, default=7, help="windows a file, at most 7")
    parser.add_argument("paths", nargs="*", type=Path, help="calendars; the peer's own by default")
    args = parser.parse_args()

    own = not args.paths
    files = []
    for path in args.paths or [calendars, HERE / "calendars"]:
        files += sorted(path.rglob("*.ics")) if path.is_dir() else [path]
    known = explained()
    counts, failed = Counter(), False
    for path in files:
        kind, difference = compare(args.beadle, path, args.windows)
        if own and kind != "differs" and is_explained(path, known):
            kind, failed = f"{kind}, but differences.md says otherwise", True
        elif kind == "differs" and is_explained(path, known):
            kind = "differs, explained"
        failed |= kind == "differs"
        counts[kind] += 1
        if difference:
            print(f"{path.name}: {kind}\n    {difference}")
    print(f"\n{len(files)} files")
    for kind, number in counts.most_common():
        print(f"{number:5} {100 * number / len(files):5.1f} %  {kind}")
    if failed or not files:
        sys.exit(1)


if __name__ == "__main__":
    main()
