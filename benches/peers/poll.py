"""What people write: python poll.py <url> <state.json>"""
import hashlib, json, os, sys
import icalendar, requests

url, path = sys.argv[1:]
state = json.load(open(path)) if os.path.exists(path) else {"etag": None, "known": {}}
known = state["known"]
answer = requests.get(url, timeout=600, headers={"If-None-Match": state["etag"]})
if answer.status_code == 304:
    print(len(known), "events, not modified")
    sys.exit()
calendar = icalendar.Calendar.from_ical(answer.content)
seen = {}
for event in calendar.walk("VEVENT"):
    content = [(n, v.to_ical().decode() if hasattr(v, "to_ical") else str(v))
               for n, v in event.property_items() if n != "DTSTAMP"]
    seen[str(event["UID"])] = hashlib.md5(repr(content).encode()).hexdigest()
changed = [uid for uid, digest in seen.items() if known.get(uid) != digest]
gone = [uid for uid in known if uid not in seen]
json.dump({"etag": answer.headers.get("ETag"), "known": seen}, open(path, "w"))
print(len(seen), "events", len(changed), "changed", len(gone), "gone")
