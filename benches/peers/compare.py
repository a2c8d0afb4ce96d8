"""Whole polls of a loopback server, each a fresh process, in one interleaved run; see compare.sh."""
import gzip, http.server, os, resource, shutil, sqlite3, statistics, subprocess, sys, threading, time

work, events, rounds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
slow = int(sys.argv[4])
turn, unmodified = 0, False
read = lambda name: open(os.path.join(work, name), "rb").read()
bodies = {
    "plain": [read("a.ics"), read("b.ics")],
    "short": [read("short.ics")],
    "long": [read("long.ics")],
}
bodies["gz"] = bodies["plain"]
packed = [gzip.compress(body, 6) for body in bodies["gz"]]


class Server(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if not self.path.endswith("/feed.ics"):
            # What a program may ask of the site besides its feed.
            self.send_response(404)
            self.send_header("Content-Length", "0")
            return self.end_headers()
        zipped = self.path.startswith("/gz") and "gzip" in self.headers.get("Accept-Encoding", "")
        all = packed if zipped else bodies[self.path.split("/")[1]]
        body = all[turn % len(all)]
        if unmodified and self.headers.get("If-None-Match"):
            self.send_response(304)
            self.send_header("ETag", '"one"')
            return self.end_headers()
        self.send_response(200)
        self.send_header("Content-Type", "text/calendar; charset=utf-8")
        self.send_header("ETag", '"one"')
        self.send_header("Content-Length", str(len(body)))
        if zipped:
            self.send_header("Content-Encoding", "gzip")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
base = f"http://127.0.0.1:{server.server_port}"


def config(kind):
    folder = os.path.join(work, f"beadle-{kind}")
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, "config.toml")
    with open(path, "w") as file:
        file.write(f'''timezone = "America/New_York"
state = "{folder}/state"
[feed.bench]
url = "{base}/{kind}/feed.ics"
max_size = "1 GB"
timeout = "10m"
settle = "0s"
private = true
lookups = false
[[watch]]
name = "none"
feeds = ["bench"]
categories = ["No such category"]
announce = ["new"]
to = ["nobody"]
[receiver.nobody]
terminal = true
''')
    return path


beadle = os.path.join(work, "beadle")
python, js = os.path.join(work, "py/bin/python"), os.path.join(work, "js/poll.js")
tools = {
    "curl": ["curl", "-s", "-o", "/dev/null", f"{base}/plain/feed.ics"],
    "beadle": [beadle, "once", "--config", config("plain")],
    "curl --compressed": ["curl", "-s", "--compressed", "-o", "/dev/null", f"{base}/gz/feed.ics"],
    "beadle, gzip": [beadle, "once", "--config", config("gz")],
    "beadle, tenth": [beadle, "once", "--config", config("short")],
    "beadle, tenth x 10": [beadle, "once", "--config", config("long")],
}
if os.path.exists(os.path.join(work, "js/node_modules/node-ical")):
    tools["node-ical"] = ["node", js, f"{base}/plain/feed.ics", os.path.join(work, "js.json")]
if os.path.exists(python):
    tools["icalendar (Python)"] = [python, os.path.join(work, "poll.py"), f"{base}/plain/feed.ics", os.path.join(work, "py.json")]
measure = shutil.which("time")


def run(command):
    """Wall and CPU seconds, and peak MiB, of a process. It is started by a small one, because a
    peak begins with that of the process that forked."""
    usage = os.path.join(work, "usage")
    if measure:
        command = [measure, "-q", "-o", usage, "-f", "%M"] + command
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    wall = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(f"{command}: {done.stdout.decode()}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    peak = int(open(usage).read()) / 1024 if measure else float("nan")
    return wall, cpu, peak, done.stdout.decode()


def writes():
    """What is in the store of each event, to see that it is not written again."""
    db = None
    for folder, _, files in os.walk(os.path.join(work, "beadle-plain/state")):
        for name in files:
            if name.endswith((".db", ".sqlite", ".sqlite3")):
                db = os.path.join(folder, name)
    rows = sqlite3.connect(f"file:{db}?mode=ro", uri=True).execute(
        "SELECT count(*), total(revision), max(rowid) FROM event").fetchone()
    return db, rows


times = {name: [] for name in tools}
firsts = {}
for name, command in tools.items():
    firsts[name] = first = run(command)
    print(f"first  {name:20} {first[0] * 1e3:9.1f} ms {first[1] * 1e3:9.1f} ms CPU {first[2]:8.1f} MiB  {first[3].strip()[-60:]!r}")
before = writes()
for round in range(rounds):
    turn += 1
    for name, command in tools.items():
        if name in ("node-ical", "icalendar (Python)") and round >= slow:
            continue
        times[name].append(run(command))
after = writes()
print("rows, revisions and last row before and after:", before[1], after[1])


def median(name, column):
    return statistics.median(row[column] for row in times[name])


print(f"{'restamped':20} {'wall ms':>9} {'[min..max]':>18} {'CPU ms':>9} {'peak MiB':>9}")
for name, rows in times.items():
    if not rows:
        continue
    walls = [row[0] * 1e3 for row in rows]
    print(f"{name:20} {median(name, 0) * 1e3:9.1f} [{min(walls):7.1f}..{max(walls):8.1f}] {median(name, 1) * 1e3:9.1f} {median(name, 2):9.1f}")


def ratio(label, a, b, column, goal):
    if times.get(a) and times.get(b):
        print(f"{label:44} {median(a, column) / median(b, column):8.2f}  goal {goal}")


ratio("poll / curl, wall", "beadle", "curl", 0, "<= 1.25")
ratio("poll / curl, CPU", "beadle", "curl", 1, "<= 1.25")
ratio("poll / curl --compressed, wall", "beadle, gzip", "curl --compressed", 0, "<= 0.7")
ratio("node-ical / poll, wall", "node-ical", "beadle", 0, ">= 100")
ratio("icalendar (Python) / poll, wall", "icalendar (Python)", "beadle", 0, ">= 400, 350 at 10k")
ratio("tenth of the events, 10 x longer, peak", "beadle, tenth x 10", "beadle, tenth", 2, "<= 1.1")
ratio("node-ical / poll, peak", "node-ical", "beadle", 2, ">= 100 at 100k")
ratio("icalendar (Python) / poll, peak", "icalendar (Python)", "beadle", 2, ">= 100 at 100k")
goal = 10 + 90 * events / 2**20
print(f"{'peak of a poll, MiB':44} {median('beadle', 2):8.1f}  goal <= {goal:.1f}")
print(f"{'peak of the first poll, MiB':44} {firsts['beadle'][2]:8.1f}  goal <= {goal:.1f}")

# Nothing was modified.
unmodified = True
times = {f"{name}, 304": [] for name in ("beadle", "node-ical", "icalendar (Python)") if name in tools}
for _ in range(2 * rounds):
    for name, rows in times.items():
        rows.append(run(tools[name.removesuffix(", 304")]))
for name, rows in times.items():
    print(f"{name:25} {median(name, 0) * 1e3:9.1f} ms {median(name, 1) * 1e3:9.1f} ms CPU {median(name, 2):8.1f} MiB")
for column, what in ((0, "wall"), (1, "CPU")):
    ratio(f"node-ical / poll, 304, {what}", "node-ical, 304", "beadle, 304", column, ">= 30")
    ratio(f"icalendar (Python) / poll, 304, {what}", "icalendar (Python), 304", "beadle, 304", column, ">= 30")

# A process that stays: what it holds after a poll.
unmodified = False
turn += 1
stays = subprocess.Popen([beadle, "run", "--config", config("plain")], stderr=subprocess.PIPE, text=True)
status = lambda: open(f"/proc/{stays.pid}/status").read().split("VmRSS:")[1].split()[0]
try:
    # Until the connection is closed that was kept open for more requests.
    time.sleep(20 + events / 20000)
    print(f"{'resident after a poll, MiB':44} {int(status()) / 1024:8.1f}  goal <= 12")
finally:
    stays.terminate()
    stays.wait()
