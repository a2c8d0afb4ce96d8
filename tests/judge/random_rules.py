#!/usr/bin/env python3
"""Compares `beadle events` with python-dateutil on random rules.

    tests/judge/random_rules.py [--beadle PROGRAM] [--seed N] [--rules N]

Calendars of recurring events with random rules and starts are asked about a few windows. Each is
small enough that beadle leaves nothing out of it. The rules that the second table of differences.md
explains are not made. Fails on any difference.
"""

import argparse
import datetime as dt
import os
import random
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

from judge import HERE, ours, set_up

DAYS = ["MO", "TU", "WE", "TH", "FR", "SA", "SU"]


def some(chance, values, most):
    if random.random() >= chance:
        return None
    return sorted({random.choice(values) for _ in range(random.randint(1, most))})


def signed(most):
    return [*range(1, most + 1), *range(-most, 0)]


def rule(start):
    freq = random.choice(["YEARLY", "MONTHLY", "WEEKLY", "DAILY", "YEARLY", "MONTHLY", "HOURLY"])
    wide = freq in ("YEARLY", "MONTHLY")
    days = [f"{n}{d}" for n in (1, 2, 3, 4, 5, -1, -2) for d in DAYS]
    parts = {
        "INTERVAL": [random.choice([1, 1, 1, 2, 3, 5, 13])],
        "COUNT": some(0.2, range(1, 400), 1),
        "WKST": some(0.2, DAYS, 1),
        "BYMONTH": some(0.3, range(1, 13), 4),
        "BYMONTHDAY": some(0.3, signed(31), 4) if freq != "WEEKLY" else None,
        "BYDAY": some(0.5, days if wide and random.random() < 0.5 else DAYS, 4),
        "BYHOUR": some(0.1, range(24), 3),
        "BYMINUTE": some(0.1, range(60), 3),
    }
    if freq == "YEARLY" and random.random() < 0.2:
        parts["BYYEARDAY"] = some(1, signed(366), 6)
    elif freq == "YEARLY" and random.random() < 0.2:
        parts["BYWEEKNO"] = some(1, [n for n in signed(51) if n], 4)
        parts["BYDAY"] = some(1, DAYS, 3)
    if freq in ("YEARLY", "MONTHLY") and any(parts[p] for p in ("BYMONTH", "BYMONTHDAY", "BYDAY")):
        parts["BYSETPOS"] = some(0.3, signed(6), 2)
    if not parts["COUNT"] and random.random() < 0.3:
        until = start + dt.timedelta(days=random.randint(0, 5000), hours=random.randint(0, 23))
        parts["UNTIL"] = [until.strftime("%Y%m%dT%H%M%SZ")]
    text = [f"{name}={','.join(map(str, values))}" for name, values in parts.items() if values]
    return ";".join([f"FREQ={freq}", *text])


def main():
    set_up()
    from dateutil.rrule import rrulestr

    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    target = Path(os.environ.get("CARGO_TARGET_DIR", HERE.parents[1] / "target"))
    parser.add_argument("--beadle", default=str(target / "debug" / "beadle"))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rules", type=int, default=2000)
    args = parser.parse_args()
    random.seed(args.seed)

    failed = 0
    for begin in range(0, args.rules, 300):
        failed += compare(args.beadle, rrulestr, min(300, args.rules - begin))
    print(f"{args.rules} rules, 4 windows each: {failed} differ")
    sys.exit(1 if failed else 0)


def compare(beadle, rrulestr, rules):
    stamp = "%Y%m%dT%H%M%SZ"
    events = []
    lines = ["BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:judge"]
    for number in range(rules):
        start = dt.datetime(1998, 1, 1, tzinfo=dt.timezone.utc)
        start += dt.timedelta(minutes=15 * random.randint(0, 27 * 366 * 96))
        text = rule(start)
        events.append((start, text))
        lines += ["BEGIN:VEVENT", f"UID:{number}", f"DTSTART:{start.strftime(stamp)}"]
        lines += [f"RRULE:{text}", "END:VEVENT"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rules.ics"
        path.write_text("\r\n".join([*lines, "END:VCALENDAR", ""]))
        failed = 0
        for year, days in ((2000, 200), (2019, 120), (2026, 90), (2032, 365)):
            begin = dt.datetime(year, 6, 1, tzinfo=dt.timezone.utc)
            end = begin + dt.timedelta(days=days)
            answer, _ = ours(beadle, path, begin, end)
            mine = defaultdict(set)
            for uid, start, _, _ in answer:
                mine[int(uid)].add(start)
            for number, (start, text) in enumerate(events):
                try:
                    found = rrulestr(text, dtstart=start).between(begin, end, inc=True)
                except ValueError:
                    # What dateutil says of hours that an HOURLY rule never reaches.
                    found = []
                found = {at for at in found if begin <= at < end}
                if begin <= start < end:
                    found.add(start)
                theirs = {at.strftime("%Y-%m-%dT%H:%M:%SZ") for at in found}
                if mine[number] != theirs:
                    failed += 1
                    extra = sorted(mine[number] - theirs)[:3]
                    missing = sorted(theirs - mine[number])[:3]
                    print(f"{start:%Y%m%dT%H%M} {text} in {year}: + {extra} - {missing}")
    return failed


if __name__ == "__main__":
    main()
