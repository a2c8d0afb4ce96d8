PRAGMA application_id = 1113940324;
PRAGMA page_size = 8192;
CREATE TABLE body (
    feed         TEXT NOT NULL,
    part         BIGINT NOT NULL,
    fingerprints BLOB NOT NULL,
    PRIMARY KEY (feed, part)
);
INSERT INTO body VALUES ('site', 0, X'25E94D7E3120B3162370EF3B292413BCDA3C281D02E961CE0CB6F450B1BF4CBE674CD7BD8FC70F26D4F9A87D6AFCF02C8B5CBED40583E6F416CC7DA117228944');
CREATE TABLE event (
    feed        TEXT NOT NULL,
    key         TEXT NOT NULL,
    fingerprint BLOB NOT NULL,
    presence    TEXT NOT NULL,
    told_state  TEXT NOT NULL,
    told        TEXT,
    seen        TEXT NOT NULL,
    since       BIGINT,
    revision    BIGINT NOT NULL,
    starts      BIGINT NOT NULL,
    ends        BIGINT NOT NULL,
    hash        BIGINT NOT NULL,
    uid_mark    BIGINT NOT NULL,
    stem_mark   BIGINT NOT NULL,
    title_mark  BIGINT NOT NULL,
    PRIMARY KEY (feed, key)
);
INSERT INTO event VALUES ('site', 'soon', X'8B5CBED40583E6F416CC7DA117228944', 'listed', 'listed', NULL, '{"uid":"soon","sequence":0,"status":"confirmed","start":{"zoned":{"local":"2026-03-05T10:20:00","zone":"America/New_York"}},"end":{"zoned":{"local":"2026-03-05T11:20:00","zone":"America/New_York"}},"summary":"Soon","description":"","location":"","categories":[],"categories_raw":[]}', NULL, 1772719200, 1772724000000, 1772727600000, -8319509684621168061, 1052488259, 1052488259, 1052488259);
INSERT INTO event VALUES ('site', 'talk', X'25E94D7E3120B3162370EF3B292413BC', 'listed', 'listed', NULL, '{"uid":"talk","sequence":0,"status":"confirmed","start":{"zoned":{"local":"2026-03-11T10:00:00","zone":"America/New_York"}},"end":{"zoned":{"local":"2026-03-11T11:00:00","zone":"America/New_York"}},"summary":"A talk","description":"","location":"","categories":[],"categories_raw":[]}', NULL, 1772719201, 1773237600000, 1773241200000, -3010309331788779360, 2930749600, 2930749600, 3312552418);
INSERT INTO event VALUES ('site', 'tea#2026-03-24T15:00:00', X'674CD7BD8FC70F26D4F9A87D6AFCF02C', 'listed', 'listed', NULL, '{"uid":"tea","recurrence_id":{"zoned":{"local":"2026-03-24T15:00:00","zone":"America/New_York"}},"sequence":0,"status":"confirmed","start":{"zoned":{"local":"2026-03-24T16:00:00","zone":"America/New_York"}},"end":{"zoned":{"local":"2026-03-24T17:00:00","zone":"America/New_York"}},"summary":"Tea, later","description":"","location":"","categories":[],"categories_raw":[]}', NULL, 1772719200, 1774378800000, 1774386000000, -4107500348532671247, 33674368, 33674368, 2079690246);
INSERT INTO event VALUES ('site', 'tea', X'DA3C281D02E961CE0CB6F450B1BF4CBE', 'listed', 'listed', NULL, '{"uid":"tea","sequence":0,"status":"confirmed","start":{"zoned":{"local":"2026-03-03T15:00:00","zone":"America/New_York"}},"end":{"zoned":{"local":"2026-03-03T16:00:00","zone":"America/New_York"}},"summary":"Tea","description":"","location":"","categories":[],"categories_raw":[],"recurrence":{"rules":["FREQ=WEEKLY"],"exdates":[{"zoned":{"local":"2026-03-17T15:00:00","zone":"America/New_York"}}]}}', NULL, 1772719200, 1772568000000, 253402207200999, -5045242415506402176, 33674368, 33674368, 33674368);
CREATE TABLE feed (
    name          TEXT NOT NULL PRIMARY KEY,
    address       TEXT NOT NULL DEFAULT '',
    etag          TEXT,
    last_modified TEXT,
    prodid        TEXT NOT NULL DEFAULT '',
    title         TEXT,
    timezone      TEXT,
    refresh_s     BIGINT,
    asked_to      BIGINT,
    statuses_since BIGINT,
    empty_since   BIGINT,
    in_part       BIGINT NOT NULL DEFAULT 0,
    baseline_at   BIGINT,
    recheck_at    BIGINT,
    next_poll_at  BIGINT,
    changed_at    BIGINT,
    failures      BIGINT NOT NULL DEFAULT 0,
    failing_since BIGINT,
    last_error    TEXT
);
INSERT INTO feed VALUES ('site', 'f7d0489a02f93f40', '1970-01-01T00:00:02Z 775', NULL, '-//Example//Calendar//EN', 'Example', NULL, NULL, NULL, NULL, NULL, 0, 1772719200000, NULL, 1772720971200, 1772720100000, 0, NULL, NULL);
CREATE TABLE meta (
    name  TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
);
INSERT INTO meta VALUES ('watermark', '1772720400000');
CREATE TABLE outbox (
    id           TEXT NOT NULL PRIMARY KEY,
    endpoint     TEXT NOT NULL,
    source       TEXT NOT NULL,
    notification TEXT NOT NULL,
    state        TEXT NOT NULL,
    planned_at   BIGINT NOT NULL,
    due_at       BIGINT NOT NULL,
    not_after    BIGINT NOT NULL,
    position     BIGINT NOT NULL,
    attempt_at   BIGINT NOT NULL,
    attempts     BIGINT NOT NULL DEFAULT 0,
    lease_until  BIGINT,
    payload      TEXT,
    remote_id    TEXT,
    last_error   TEXT,
    settled_at   BIGINT,
    -- When it was first sent without an answer that says whether it arrived.
    doubt_since  BIGINT
);
INSERT INTO outbox VALUES ('383a9cd49e2ea76e9bb6065d50e13529', 'dm/12', 'a reminder you asked for', '{"source":"a reminder you asked for","kind":{"reminder":{"lead":"1h"}},"zone":"America/New_York","items":[{"feed":"site","feed_name":"Example","key":"soon","reason":"upcoming","event":{"uid":"soon","sequence":0,"status":"confirmed","start":{"zoned":{"local":"2026-03-05T10:20:00","zone":"America/New_York"}},"end":{"zoned":{"local":"2026-03-05T11:20:00","zone":"America/New_York"}},"summary":"Soon","description":"","location":"","categories":[],"categories_raw":[]},"start":"2026-03-05T15:20:00Z","end":"2026-03-05T16:20:00Z","series":false,"revision":0}],"more":0}', 'dead', 1772720400000, 1772720400000, 1772724000000, 2000, 1772720400000, 1, NULL, '{"embeds":[{"title":"Reminder: Soon","description":"Starts **<t:1772724000:R>**.","color":7153881,"fields":[{"name":"When","value":"<t:1772724000:F> – <t:1772727600:t>"}],"footer":{"text":"a reminder you asked for · Example"}}],"allowed_mentions":{"parse":[]},"components":[{"type":1,"components":[{"type":2,"style":5,"label":"Add to calendar","url":"https://calendar.google.com/calendar/render?action=TEMPLATE&text=Soon&dates=20260305T152000Z%2F20260305T162000Z"}]}]}', NULL, 'Discord does not let this bot write there (HTTP 403, 50007 Cannot send messages to this user)', 1772720400003, NULL);
INSERT INTO outbox VALUES ('74cc4394336692fd65b3688426bf86af', 'channel/discord', 'all', '{"source":"all","kind":"changes","zone":"America/New_York","items":[{"feed":"site","feed_name":"Example","key":"talk","reason":{"rescheduled":{"fields":["start","end"]}},"event":{"uid":"talk","sequence":0,"status":"confirmed","start":{"zoned":{"local":"2026-03-11T10:00:00","zone":"America/New_York"}},"end":{"zoned":{"local":"2026-03-11T11:00:00","zone":"America/New_York"}},"summary":"A talk","description":"","location":"","categories":[],"categories_raw":[]},"before":{"uid":"talk","sequence":0,"status":"confirmed","start":{"zoned":{"local":"2026-03-10T10:00:00","zone":"America/New_York"}},"end":{"zoned":{"local":"2026-03-10T11:00:00","zone":"America/New_York"}},"summary":"A talk","description":"","location":"","categories":[],"categories_raw":[]},"start":"2026-03-11T14:00:00Z","end":"2026-03-11T15:00:00Z","start_before":"2026-03-10T14:00:00Z","end_before":"2026-03-10T15:00:00Z","series":false,"revision":1772719201}],"more":0}', 'sent', 1772720100000, 1772720100000, 1773241200000, 0, 1772720100000, 1, NULL, '{"message":{"embeds":[{"title":"Rescheduled: A talk","color":11817737,"fields":[{"name":"When","value":"~~<t:1773151200:F> – <t:1773154800:t>~~\n**<t:1773237600:F> – <t:1773241200:t>** (<t:1773237600:R>)"}],"footer":{"text":"all · Example"}}],"allowed_mentions":{"parse":[]},"components":[{"type":1,"components":[{"type":2,"style":5,"label":"Add to calendar","url":"https://calendar.google.com/calendar/render?action=TEMPLATE&text=A+talk&dates=20260311T140000Z%2F20260311T150000Z"},{"type":2,"style":2,"label":"Remind me","custom_id":"remind:a87b82b7.d6393b9caeafb0a0.69b17560"}]}]},"name":"A talk","of_event":true}', '7/1400000000000000003', NULL, 1772720100016, 1772720100000);
INSERT INTO outbox VALUES ('8daab2df6283b3c38af8f595ce66a1c4', 'talk/discord', 'all', '{"source":"all","kind":{"reminder":{"lead":"1h"}},"zone":"America/New_York","items":[{"feed":"site","feed_name":"Example","key":"soon","reason":"upcoming","event":{"uid":"soon","sequence":0,"status":"confirmed","start":{"zoned":{"local":"2026-03-05T10:20:00","zone":"America/New_York"}},"end":{"zoned":{"local":"2026-03-05T11:20:00","zone":"America/New_York"}},"summary":"Soon","description":"","location":"","categories":[],"categories_raw":[]},"start":"2026-03-05T15:20:00Z","end":"2026-03-05T16:20:00Z","series":false,"revision":0}],"more":0}', 'pending', 1772720400000, 1772720400000, 1772724000000, 1000, 1772720400000, 0, NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO outbox VALUES ('ae0f28da5e9afc75f61648823184e201', 'talk/discord', 'all', '{"source":"all","kind":"changes","zone":"America/New_York","items":[{"feed":"site","feed_name":"Example","key":"talk","reason":{"rescheduled":{"fields":["start","end"]}},"event":{"uid":"talk","sequence":0,"status":"confirmed","start":{"zoned":{"local":"2026-03-11T10:00:00","zone":"America/New_York"}},"end":{"zoned":{"local":"2026-03-11T11:00:00","zone":"America/New_York"}},"summary":"A talk","description":"","location":"","categories":[],"categories_raw":[]},"before":{"uid":"talk","sequence":0,"status":"confirmed","start":{"zoned":{"local":"2026-03-10T10:00:00","zone":"America/New_York"}},"end":{"zoned":{"local":"2026-03-10T11:00:00","zone":"America/New_York"}},"summary":"A talk","description":"","location":"","categories":[],"categories_raw":[]},"start":"2026-03-11T14:00:00Z","end":"2026-03-11T15:00:00Z","start_before":"2026-03-10T14:00:00Z","end_before":"2026-03-10T15:00:00Z","series":false,"revision":1772719201}],"more":0}', 'sent', 1772720100000, 1772720100000, 1773241200000, 1000, 1772720100000, 1, NULL, '{"message":{"embeds":[{"title":"Rescheduled: A talk","color":11817737,"fields":[{"name":"When","value":"~~<t:1773151200:F> – <t:1773154800:t>~~\n**<t:1773237600:F> – <t:1773241200:t>** (<t:1773237600:R>)"}],"footer":{"text":"all · Example"}}],"allowed_mentions":{"parse":[]},"components":[{"type":1,"components":[{"type":2,"style":5,"label":"Add to calendar","url":"https://calendar.google.com/calendar/render?action=TEMPLATE&text=A+talk&dates=20260311T140000Z%2F20260311T150000Z"},{"type":2,"style":2,"label":"Remind me","custom_id":"remind:a87b82b7.d6393b9caeafb0a0.69b17560"}]}]},"name":"A talk","of_event":true}', '8/1400000000000000002', NULL, 1772720100006, 1772720100000);
INSERT INTO outbox VALUES ('bb329eadb635a3f18e8d4518947f1fd7', 'talk/discord', 'all', '{"source":"all","kind":"welcome","zone":"America/New_York","items":[{"feed":"site","feed_name":"Example","key":"soon","reason":"upcoming","event":{"uid":"soon","sequence":0,"status":"confirmed","start":{"zoned":{"local":"2026-03-05T10:20:00","zone":"America/New_York"}},"end":{"zoned":{"local":"2026-03-05T11:20:00","zone":"America/New_York"}},"summary":"Soon","description":"","location":"","categories":[],"categories_raw":[]},"start":"2026-03-05T15:20:00Z","end":"2026-03-05T16:20:00Z","series":false,"revision":0},{"feed":"site","feed_name":"Example","key":"talk","reason":"upcoming","event":{"uid":"talk","sequence":0,"status":"confirmed","start":{"zoned":{"local":"2026-03-10T10:00:00","zone":"America/New_York"}},"end":{"zoned":{"local":"2026-03-10T11:00:00","zone":"America/New_York"}},"summary":"A talk","description":"","location":"","categories":[],"categories_raw":[]},"start":"2026-03-10T14:00:00Z","end":"2026-03-10T15:00:00Z","series":false,"revision":0},{"feed":"site","feed_name":"Example","key":"tea","reason":"upcoming","event":{"uid":"tea","recurrence_id":{"zoned":{"local":"2026-03-10T15:00:00","zone":"America/New_York"}},"sequence":0,"status":"confirmed","start":{"zoned":{"local":"2026-03-10T15:00:00","zone":"America/New_York"}},"end":{"zoned":{"local":"2026-03-10T16:00:00","zone":"America/New_York"}},"summary":"Tea","description":"","location":"","categories":[],"categories_raw":[]},"start":"2026-03-10T19:00:00Z","end":"2026-03-10T20:00:00Z","series":false,"revision":0}],"more":0}', 'sent', 1772719200000, 1772719200000, 1773928800000, 1000, 1772719200000, 1, NULL, '{"message":{"embeds":[{"title":"Now watching: all","description":"News will be told here. Coming up:\n### Thu, Mar 5, 2026\n**Soon**\n10:20 AM – 11:20 AM EST (<t:1772724000:R>)\n### Tue, Mar 10, 2026\n**A talk**\n10:00 AM – 11:00 AM EDT (<t:1773151200:R>)\n\n**Tea**\n3:00 PM – 4:00 PM EDT (<t:1773169200:R>)","color":4405450,"footer":{"text":"all · Example"}}],"allowed_mentions":{"parse":[]}},"name":"Now watching: all","of_event":false}', '8/1400000000000000000', NULL, 1772719200014, 1772719200000);
INSERT INTO outbox VALUES ('beb1e2488c942918e089ee4354eb0362', 'channel/discord', 'all', '{"source":"all","kind":{"reminder":{"lead":"1h"}},"zone":"America/New_York","items":[{"feed":"site","feed_name":"Example","key":"soon","reason":"upcoming","event":{"uid":"soon","sequence":0,"status":"confirmed","start":{"zoned":{"local":"2026-03-05T10:20:00","zone":"America/New_York"}},"end":{"zoned":{"local":"2026-03-05T11:20:00","zone":"America/New_York"}},"summary":"Soon","description":"","location":"","categories":[],"categories_raw":[]},"start":"2026-03-05T15:20:00Z","end":"2026-03-05T16:20:00Z","series":false,"revision":0}],"more":0}', 'sent', 1772720400000, 1772720400000, 1772724000000, 0, 1772720400000, 1, NULL, '{"message":{"embeds":[{"title":"Reminder: Soon","description":"Starts **<t:1772724000:R>**.","color":7153881,"fields":[{"name":"When","value":"<t:1772724000:F> – <t:1772727600:t>"}],"footer":{"text":"all · Example"}}],"allowed_mentions":{"parse":[]},"components":[{"type":1,"components":[{"type":2,"style":5,"label":"Add to calendar","url":"https://calendar.google.com/calendar/render?action=TEMPLATE&text=Soon&dates=20260305T152000Z%2F20260305T162000Z"},{"type":2,"style":2,"label":"Remind me","custom_id":"remind:a87b82b7.8c8b2a053ebbb243.69a99f20"}]}]},"name":"Soon","of_event":true}', '7/1400000000000000004', NULL, 1772720400002, 1772720400000);
INSERT INTO outbox VALUES ('fec875afd28597c3dcf1e86da405ea2c', 'channel/discord', 'all', '{"source":"all","kind":"welcome","zone":"America/New_York","items":[{"feed":"site","feed_name":"Example","key":"soon","reason":"upcoming","event":{"uid":"soon","sequence":0,"status":"confirmed","start":{"zoned":{"local":"2026-03-05T10:20:00","zone":"America/New_York"}},"end":{"zoned":{"local":"2026-03-05T11:20:00","zone":"America/New_York"}},"summary":"Soon","description":"","location":"","categories":[],"categories_raw":[]},"start":"2026-03-05T15:20:00Z","end":"2026-03-05T16:20:00Z","series":false,"revision":0},{"feed":"site","feed_name":"Example","key":"talk","reason":"upcoming","event":{"uid":"talk","sequence":0,"status":"confirmed","start":{"zoned":{"local":"2026-03-10T10:00:00","zone":"America/New_York"}},"end":{"zoned":{"local":"2026-03-10T11:00:00","zone":"America/New_York"}},"summary":"A talk","description":"","location":"","categories":[],"categories_raw":[]},"start":"2026-03-10T14:00:00Z","end":"2026-03-10T15:00:00Z","series":false,"revision":0},{"feed":"site","feed_name":"Example","key":"tea","reason":"upcoming","event":{"uid":"tea","recurrence_id":{"zoned":{"local":"2026-03-10T15:00:00","zone":"America/New_York"}},"sequence":0,"status":"confirmed","start":{"zoned":{"local":"2026-03-10T15:00:00","zone":"America/New_York"}},"end":{"zoned":{"local":"2026-03-10T16:00:00","zone":"America/New_York"}},"summary":"Tea","description":"","location":"","categories":[],"categories_raw":[]},"start":"2026-03-10T19:00:00Z","end":"2026-03-10T20:00:00Z","series":false,"revision":0}],"more":0}', 'sent', 1772719200000, 1772719200000, 1773928800000, 0, 1772719200000, 1, NULL, '{"message":{"embeds":[{"title":"Now watching: all","description":"News will be told here. Coming up:\n### Thu, Mar 5, 2026\n**Soon**\n10:20 AM – 11:20 AM EST (<t:1772724000:R>)\n### Tue, Mar 10, 2026\n**A talk**\n10:00 AM – 11:00 AM EDT (<t:1773151200:R>)\n\n**Tea**\n3:00 PM – 4:00 PM EDT (<t:1773169200:R>)","color":4405450,"footer":{"text":"all · Example"}}],"allowed_mentions":{"parse":[]}},"name":"Now watching: all","of_event":false}', '7/1400000000000000001', NULL, 1772719200024, 1772719200000);
CREATE TABLE parked (
    endpoint TEXT NOT NULL PRIMARY KEY,
    since    BIGINT NOT NULL,
    retry_at BIGINT NOT NULL,
    reason   TEXT NOT NULL
);
INSERT INTO parked VALUES ('talk/discord', 1772720160000, 1772805600000, 'closed');
CREATE TABLE paused (
    watch TEXT NOT NULL PRIMARY KEY,
    since BIGINT NOT NULL,
    by_id TEXT NOT NULL
);
INSERT INTO paused VALUES ('another', 1772719500000, '11');
CREATE TABLE reminder_request (
    id         TEXT NOT NULL PRIMARY KEY,
    person     TEXT NOT NULL,
    feed       TEXT NOT NULL,
    event      TEXT NOT NULL,
    uid        TEXT NOT NULL,
    occurrence TEXT,
    lead       TEXT NOT NULL,
    title      TEXT NOT NULL,
    starts     BIGINT NOT NULL,
    created_at BIGINT NOT NULL
);
INSERT INTO reminder_request VALUES ('b5a5a8308d6e4d92', '11', 'site', 'talk', 'talk', NULL, '1d', 'talk', 1772724000000, 1772719200000);
INSERT INTO reminder_request VALUES ('d24b6993d4278662', '12', 'site', 'soon', 'soon', NULL, '1h', 'soon', 1772724000000, 1772719200000);
CREATE TABLE schema_version (version BIGINT NOT NULL);
INSERT INTO schema_version VALUES (1);
CREATE TABLE shown (
    target    TEXT NOT NULL,
    purpose   TEXT NOT NULL,
    name      TEXT NOT NULL,
    feed      TEXT NOT NULL,
    key       TEXT NOT NULL,
    state     TEXT NOT NULL,
    remote_id TEXT,
    hash      BIGINT NOT NULL,
    revision  BIGINT NOT NULL,
    first     TEXT,
    starts    BIGINT NOT NULL,
    ends      BIGINT NOT NULL,
    pinned    BIGINT NOT NULL,
    since     BIGINT NOT NULL,
    refusal      TEXT,
    refused_hash BIGINT,
    refused_at   BIGINT,
    PRIMARY KEY (target, purpose, name)
);
INSERT INTO shown VALUES ('channel/discord', 'announcement', 'site|talk', 'site', 'talk', 'shown', '7/1400000000000000003', -6491272779015146233, 1772719201, '{"source":"all","kind":"changes","zone":"America/New_York","items":[{"feed":"site","feed_name":"Example","key":"talk","reason":{"rescheduled":{"fields":["start","end"]}},"event":{"uid":"talk","sequence":0,"status":"confirmed","start":{"zoned":{"local":"2026-03-11T10:00:00","zone":"America/New_York"}},"end":{"zoned":{"local":"2026-03-11T11:00:00","zone":"America/New_York"}},"summary":"A talk","description":"","location":"","categories":[],"categories_raw":[]},"before":{"uid":"talk","sequence":0,"status":"confirmed","start":{"zoned":{"local":"2026-03-10T10:00:00","zone":"America/New_York"}},"end":{"zoned":{"local":"2026-03-10T11:00:00","zone":"America/New_York"}},"summary":"A talk","description":"","location":"","categories":[],"categories_raw":[]},"start":"2026-03-11T14:00:00Z","end":"2026-03-11T15:00:00Z","start_before":"2026-03-10T14:00:00Z","end_before":"2026-03-10T15:00:00Z","series":false,"revision":1772719201}],"more":0}', 1773237600000, 1773241200000, 0, 1772720100016, NULL, NULL, NULL);
INSERT INTO shown VALUES ('talk/discord', 'announcement', 'site|talk', 'site', 'talk', 'shown', '8/1400000000000000002', -6491272779015146233, 1772719201, '{"source":"all","kind":"changes","zone":"America/New_York","items":[{"feed":"site","feed_name":"Example","key":"talk","reason":{"rescheduled":{"fields":["start","end"]}},"event":{"uid":"talk","sequence":0,"status":"confirmed","start":{"zoned":{"local":"2026-03-11T10:00:00","zone":"America/New_York"}},"end":{"zoned":{"local":"2026-03-11T11:00:00","zone":"America/New_York"}},"summary":"A talk","description":"","location":"","categories":[],"categories_raw":[]},"before":{"uid":"talk","sequence":0,"status":"confirmed","start":{"zoned":{"local":"2026-03-10T10:00:00","zone":"America/New_York"}},"end":{"zoned":{"local":"2026-03-10T11:00:00","zone":"America/New_York"}},"summary":"A talk","description":"","location":"","categories":[],"categories_raw":[]},"start":"2026-03-11T14:00:00Z","end":"2026-03-11T15:00:00Z","start_before":"2026-03-10T14:00:00Z","end_before":"2026-03-10T15:00:00Z","series":false,"revision":1772719201}],"more":0}', 1773237600000, 1773241200000, 0, 1772720100006, NULL, NULL, NULL);
CREATE TABLE source (
    name TEXT NOT NULL PRIMARY KEY,
    since BIGINT NOT NULL
);
INSERT INTO source VALUES ('watch all', 1772719200000);
CREATE TABLE thread (
    endpoint  TEXT NOT NULL,
    feed      TEXT NOT NULL,
    key       TEXT NOT NULL,
    remote_id TEXT NOT NULL,
    used_at   BIGINT NOT NULL,
    PRIMARY KEY (endpoint, feed, key)
);
INSERT INTO thread VALUES ('talk/discord', 'site', 'talk', '1400000000000000002', 1772720100000);
CREATE TABLE told (
    feed     TEXT NOT NULL,
    receiver TEXT NOT NULL,
    meaning  TEXT NOT NULL,
    at       BIGINT NOT NULL
);
INSERT INTO told VALUES ('site', 'channel', 'rescheduled|atalk|2026-03-11T14:00:00Z', 1772720100000);
INSERT INTO told VALUES ('site', 'talk', 'rescheduled|atalk|2026-03-11T14:00:00Z', 1772720100000);
CREATE TABLE unreachable (
    person TEXT NOT NULL PRIMARY KEY,
    since  BIGINT NOT NULL,
    reason TEXT NOT NULL
);
INSERT INTO unreachable VALUES ('12', 1772720400003, 'Discord does not let this bot write there (HTTP 403, 50007 Cannot send messages to this user)');
CREATE INDEX event_glance ON event (feed, hash, fingerprint, presence, since, starts, ends,
    uid_mark, stem_mark, title_mark);
CREATE INDEX event_long ON event (ends, starts) WHERE ends - starts > 2592000000;
CREATE INDEX event_since ON event (since) WHERE since IS NOT NULL;
CREATE INDEX event_soonest ON event (feed, ends, starts);
CREATE INDEX event_starts ON event (starts, ends);
CREATE INDEX outbox_due ON outbox (state, endpoint, attempt_at, lease_until, due_at, position, id);
CREATE INDEX reminder_request_event ON reminder_request (feed, event);
CREATE INDEX reminder_request_person ON reminder_request (person);
CREATE INDEX shown_event ON shown (feed, key);
CREATE INDEX told_at ON told (at);
