-- A row of the outbox that must wait although it is sound: its tenant is paused or over its quota, or its aggregate is
-- stopped. It stays unprocessed; standing here keeps it out of the relay's scans.
CREATE TABLE headrace.hold (
    outbox_id bigint PRIMARY KEY,
    -- An id is used again after TRUNCATE or a restore, a pair with its time is not.
    created_at timestamptz NOT NULL,
    shard smallint NOT NULL CHECK (shard BETWEEN 0 AND 63),
    aggregate_type text COLLATE "C" NOT NULL,
    aggregate_id text COLLATE "C" NOT NULL,
    payload_bytes integer NOT NULL,
    -- In whose queue the row stands. All rows of an aggregate that are not blocked stand in one queue, so that they
    -- leave in order of id; empty for a letter that was requeued.
    tenant_id text COLLATE "C" NOT NULL,
    -- Behind a stop of its aggregate: in no queue until that is lifted.
    blocked boolean NOT NULL,
    held_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX hold_by_queue ON headrace.hold (tenant_id, outbox_id) WHERE NOT blocked;
CREATE INDEX hold_by_aggregate ON headrace.hold (aggregate_type, aggregate_id, outbox_id);
-- Rows come and go in thousands while the table is looked at many times a second.
ALTER TABLE headrace.hold SET (autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05);

-- A buried row after which nothing of its aggregate may be published, as `relay.poison` says, until its dead letter is
-- recovered, discarded or purged.
CREATE TABLE headrace.stop (
    outbox_id bigint PRIMARY KEY,
    created_at timestamptz NOT NULL,
    shard smallint NOT NULL CHECK (shard BETWEEN 0 AND 63),
    aggregate_type text COLLATE "C" NOT NULL,
    aggregate_id text COLLATE "C" NOT NULL,
    -- block: later rows wait in the outbox. park: they follow into the dead letters.
    policy text NOT NULL CHECK (policy IN ('block', 'park')),
    stopped_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX stop_by_aggregate ON headrace.stop (aggregate_type, aggregate_id, outbox_id);

-- Tenants whose rows an operator holds back.
CREATE TABLE headrace.tenant_pause (
    tenant_id text COLLATE "C" PRIMARY KEY CHECK (tenant_id <> ''),
    why text NOT NULL,
    paused_by text NOT NULL,
    paused_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Who paused and resumed whom, when and why; only added to.
CREATE TABLE headrace.tenant_audit (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor text NOT NULL,
    move text NOT NULL CHECK (move IN ('pause', 'resume')),
    tenant_id text COLLATE "C" NOT NULL,
    why text NOT NULL CHECK (why <> '')
);
CREATE FUNCTION headrace.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '%.% is only added to', TG_TABLE_SCHEMA, TG_TABLE_NAME USING ERRCODE = 'check_violation';
END $$;
CREATE TRIGGER only_added_to BEFORE UPDATE OR DELETE OR TRUNCATE ON headrace.tenant_audit
    FOR EACH STATEMENT EXECUTE FUNCTION headrace.refuse_change();

-- How many rows each tenant with a quota may publish now; all relays take from it.
CREATE TABLE headrace.tenant_bucket (
    tenant_id text COLLATE "C" PRIMARY KEY,
    -- As the relay that took last was configured.
    rows_per_s double precision NOT NULL,
    burst_rows double precision NOT NULL,
    -- What was left, when.
    left_rows double precision NOT NULL,
    at timestamptz NOT NULL,
    -- What the last take got.
    granted integer NOT NULL
) WITH (fillfactor = 50);

-- How far each Redis stream had come, by PostgreSQL's clock: a Redis that has come less far since has lost entries.
CREATE TABLE headrace.redis_note (
    at timestamptz PRIMARY KEY,
    -- {stream: highest entry id ever given out}
    last_ids json NOT NULL,
    -- All that was published before is in Kafka; null while no mirror says so.
    mirrored_to timestamptz
);

-- The Redis process that relays have agreed on, and what they have begun again since.
CREATE TABLE headrace.redis_server (
    one_row boolean PRIMARY KEY DEFAULT true CHECK (one_row),
    run_id text NOT NULL DEFAULT '',
    rewinds bigint NOT NULL DEFAULT 0,
    -- Relays look from here on again.
    from_id bigint NOT NULL DEFAULT 0,
    rewound_at timestamptz
);
INSERT INTO headrace.redis_server DEFAULT VALUES;

-- The lowest row that was marked lately: since `lowest_from`, and in the period before it. Above it are all rows that a
-- Redis may have to get again.
ALTER TABLE headrace.shard
    ADD COLUMN lowest_from timestamptz NOT NULL DEFAULT clock_timestamp(),
    ADD COLUMN lowest_id bigint,
    ADD COLUMN lowest_id_before bigint;

INSERT INTO headrace.schema_version (version, name) VALUES (2, 'holds');
