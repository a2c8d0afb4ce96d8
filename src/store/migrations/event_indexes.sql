-- The indexes of `event`, apart: where thousands of events come at once they are made after those,
-- which takes a fraction of the time.

CREATE INDEX event_starts ON event (starts, ends);
-- Those that may last over a window while they begin long before it: few.
CREATE INDEX event_long ON event (ends, starts) WHERE ends - starts > 2592000000;
-- Those that wait for something: few.
CREATE INDEX event_since ON event (since) WHERE since IS NOT NULL;
CREATE INDEX event_soonest ON event (feed, ends, starts);
-- Everything that a poll wants to know of all events, so that it need not touch the rows.
CREATE INDEX event_glance ON event (feed, hash, fingerprint, presence, since, starts, ends,
    uid_mark, stem_mark, title_mark);
