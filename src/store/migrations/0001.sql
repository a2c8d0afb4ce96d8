-- Only TEXT, BIGINT, SMALLINT and bytes, so that the same statements run on SQLite and PostgreSQL.
-- Instants are milliseconds since 1970, UTC.

CREATE TABLE meta (
    name  TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
);

-- One row a feed: how it was last asked for and what it answered.
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

-- The fingerprints of all slices of a feed's last body, 16 bytes each, in its order; in parts,
-- since a row passes through memory several times at once.
CREATE TABLE body (
    feed         TEXT NOT NULL,
    part         BIGINT NOT NULL,
    fingerprints BLOB NOT NULL,
    PRIMARY KEY (feed, part)
);

-- One row an event. `told` is NULL where it is the same as `seen`. `starts` and `ends` bound every
-- occurrence. `hash` is of the key, the marks are of UID, stem of the UID, and title.
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

-- Watches and digests that have been met before.
CREATE TABLE source (
    name TEXT NOT NULL PRIMARY KEY,
    since BIGINT NOT NULL
);

-- One row for each message to each address.
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
-- Everything that claiming wants to know of the rows that it does not take; those of an endpoint
-- that is being sent to it does not even look at.
CREATE INDEX outbox_due ON outbox (state, endpoint, attempt_at, lease_until, due_at, position, id);

-- What receivers were told lately of which feed's events, so that they do not hear the same of the
-- same event in another feed.
CREATE TABLE told (
    feed     TEXT NOT NULL,
    receiver TEXT NOT NULL,
    meaning  TEXT NOT NULL,
    at       BIGINT NOT NULL
);
CREATE INDEX told_at ON told (at);

-- Endpoints that take no messages until someone mends them.
CREATE TABLE parked (
    endpoint TEXT NOT NULL PRIMARY KEY,
    since    BIGINT NOT NULL,
    retry_at BIGINT NOT NULL,
    reason   TEXT NOT NULL
);

-- The threads in Discord that have the news of one event each.
CREATE TABLE thread (
    endpoint  TEXT NOT NULL,
    feed      TEXT NOT NULL,
    key       TEXT NOT NULL,
    remote_id TEXT NOT NULL,
    used_at   BIGINT NOT NULL,
    PRIMARY KEY (endpoint, feed, key)
);

-- What is shown elsewhere and is kept equal to what is known here: announcements that are edited,
-- agendas, reminders that are removed, native scheduled events. `remote_id` is NULL until it is
-- known whether something was made; `first` is the notification that an announcement came with.
-- `refusal` is why what it should say by now is not shown.
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
CREATE INDEX shown_event ON shown (feed, key);

-- What people asked beadle to remind them of, by direct message. `occurrence` is the local start that
-- a series gave it; NULL where the whole event is meant. `starts` is that of the request.
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
CREATE INDEX reminder_request_person ON reminder_request (person);
CREATE INDEX reminder_request_event ON reminder_request (feed, event);

-- People whose direct messages are closed to the bot.
CREATE TABLE unreachable (
    person TEXT NOT NULL PRIMARY KEY,
    since  BIGINT NOT NULL,
    reason TEXT NOT NULL
);

-- Watches that somebody told to be silent.
CREATE TABLE paused (
    watch TEXT NOT NULL PRIMARY KEY,
    since BIGINT NOT NULL,
    by_id TEXT NOT NULL
);
