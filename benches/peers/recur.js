// A peer of ../recurrence.rs: node recur.js <feed> <from> <to>, both in seconds since 1970.
const fs = require("fs");
const ical = require("node-ical");

const [path, begin, end] = process.argv.slice(2);
const events = Object.values(ical.sync.parseICS(fs.readFileSync(path, "utf8")));
const [from, to] = [begin, end].map((second) => new Date(Number(second) * 1000));
const started = process.hrtime.bigint();
const found = events
  .filter((event) => event.type === "VEVENT")
  .flatMap((event) => ical.expandRecurringEvent(event, { from, to }));
const spent = Number(process.hrtime.bigint() - started) / 1e6;
const word = (value) => BigInt.asUintN(64, value);
let number = 0;
let sum = 0n;
for (const one of found) {
  const second = Math.floor(one.start.getTime() / 1000);
  if (second < begin || second >= end) continue;
  number += 1;
  const mixed = word((BigInt(one.event.uid) + 1n) * 0x9e3779b97f4a7c15n) ^ BigInt(second);
  sum = word(sum + mixed * 0xff51afd7ed558ccdn);
}
console.log(spent, number, sum.toString());
