// What people write: node poll.js <url> <state.json>
const fs = require("fs");
const crypto = require("crypto");
const ical = require("node-ical");

(async () => {
  const [url, path] = process.argv.slice(2);
  const state = fs.existsSync(path) ? JSON.parse(fs.readFileSync(path)) : { known: {} };
  const known = state.known;
  const headers = state.etag ? { "If-None-Match": state.etag } : {};
  const answer = await fetch(url, { headers });
  if (answer.status === 304) {
    console.log(Object.keys(known).length, "events, not modified");
    return;
  }
  const text = await answer.text();
  const seen = {};
  for (const event of Object.values(ical.sync.parseICS(text))) {
    if (event.type !== "VEVENT") continue;
    const { dtstamp, ...content } = event;
    seen[event.uid] = crypto.createHash("md5").update(JSON.stringify(content)).digest("hex");
  }
  const changed = Object.keys(seen).filter((uid) => known[uid] !== seen[uid]);
  const gone = Object.keys(known).filter((uid) => !(uid in seen));
  fs.writeFileSync(path, JSON.stringify({ etag: answer.headers.get("etag"), known: seen }));
  console.log(Object.keys(seen).length, "events", changed.length, "changed", gone.length, "gone");
})();
