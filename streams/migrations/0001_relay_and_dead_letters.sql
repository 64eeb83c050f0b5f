CREATE SCHEMA IF NOT EXISTS headrace;

CREATE TABLE headrace.schema_version (
    version integer PRIMARY KEY,
    name text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- An aggregate belongs to one of 64 shards; whoever holds the row's lock may publish the shard's rows.
CREATE TABLE headrace.shard (
    shard smallint PRIMARY KEY CHECK (shard BETWEEN 0 AND 63),
    -- When a relay last published rows of the shard.
    last_run timestamptz
) WITH (fillfactor = 50);
INSERT INTO headrace.shard (shard) SELECT generate_series(0, 63);

-- Where relays begin to look: the rows up to this id were dealt with when it was written. A hint, no more.
CREATE TABLE headrace.scan_hint (
    one_row boolean PRIMARY KEY DEFAULT true CHECK (one_row),
    low_id bigint NOT NULL DEFAULT 0
);
INSERT INTO headrace.scan_hint DEFAULT VALUES;

-- What could not be processed: its bytes, its position, and why.
CREATE TABLE headrace.dead_letter (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- "relay", or the name of the consumer that failed.
    source text NOT NULL,
    -- Of the relay: the outbox row. An id is used again after TRUNCATE or a restore, a pair with its time is not.
    outbox_id bigint,
    outbox_created_at timestamptz,
    -- Of a consumer: the record, and which incarnation of the topic it was in.
    topic text,
    incarnation text,
    partition integer,
    "offset" bigint,
    tenant_id text NOT NULL,
    event_type text NOT NULL,
    key bytea NOT NULL,
    -- [[name, value], ...]; bytes of a value that are not UTF-8 stand as lone surrogates (Python's surrogateescape).
    headers json NOT NULL,
    payload bytea NOT NULL,
    error_class text NOT NULL,
    error_text text NOT NULL,
    attempts integer NOT NULL CHECK (attempts > 0),
    first_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    last_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    state text NOT NULL DEFAULT 'dead' CHECK (state IN ('dead', 'requeued', 'resolved', 'discarded')),
    CHECK (
        (num_nonnulls(outbox_id, outbox_created_at) = 2 AND num_nulls(topic, incarnation, partition, "offset") = 4)
        OR (num_nulls(outbox_id, outbox_created_at) = 2 AND num_nonnulls(topic, incarnation, partition, "offset") = 4)
    )
);
CREATE UNIQUE INDEX dead_letter_by_row ON headrace.dead_letter (outbox_id, outbox_created_at)
    WHERE outbox_id IS NOT NULL;
CREATE UNIQUE INDEX dead_letter_by_record ON headrace.dead_letter (source, topic, incarnation, partition, "offset")
    WHERE topic IS NOT NULL;
CREATE INDEX dead_letter_by_state ON headrace.dead_letter (state, last_at);

INSERT INTO headrace.schema_version (version, name) VALUES (1, 'relay_and_dead_letters');
