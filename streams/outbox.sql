-- The ordering product's outbox, exactly as its own migration makes it. It belongs to that product: Headrace never alters
-- it, and this file is used by `headrace dev` and by tests only. Note: `processed` and `retry_count` may be NULL and have
-- no default, `payload` is json (not jsonb), and the only index is the primary key.
CREATE TABLE outbox (
    id serial PRIMARY KEY,
    aggregate_id varchar(255) NOT NULL,
    aggregate_type varchar(100) NOT NULL,
    event_type varchar(100) NOT NULL,
    payload json NOT NULL,
    processed boolean,
    processed_at timestamptz,
    retry_count integer,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
