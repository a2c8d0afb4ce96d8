"""A peer of ../recurrence.rs: python recur.py <feed> <from> <to>, both in seconds since 1970."""
import datetime, sys, time
import icalendar, recurring_ical_events

path, begin, end = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
calendar = icalendar.Calendar.from_ical(open(path, "rb").read())
at = lambda second: datetime.datetime.fromtimestamp(second, datetime.timezone.utc)
started = time.perf_counter()
found = recurring_ical_events.of(calendar).between(at(begin), at(end))
spent = time.perf_counter() - started
number = total = 0
for event in found:
    second = int(event["DTSTART"].dt.timestamp())
    if begin <= second < end:
        number += 1
        mixed = (int(event["UID"]) + 1) * 0x9E3779B97F4A7C15 & (1 << 64) - 1 ^ second
        total = total + mixed * 0xFF51AFD7ED558CCD & (1 << 64) - 1
print(spent * 1e3, number, total)
