-- Requeuing dead letters: what was asked for, in which order it leaves, what became of it, and who wanted it.

-- What an operator or a policy asked to be sent again.
CREATE TABLE headrace.requeue (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    actor text NOT NULL CHECK (actor <> ''),
    why text NOT NULL CHECK (why <> ''),
    -- The filter, as JSON, for people.
    asked json NOT NULL,
    automatic boolean NOT NULL DEFAULT false,
    rate_per_s double precision NOT NULL CHECK (rate_per_s > 0 AND rate_per_s <= 100000),
    letter_count integer NOT NULL CHECK (letter_count > 0),
    asked_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- done: every letter was recovered or died again. gave_up: they only died, and the rest was put back.
    outcome text CHECK (outcome IN ('done', 'cancelled', 'gave_up')),
    ended_at timestamptz,
    CHECK ((outcome IS NULL) = (ended_at IS NULL))
);
CREATE INDEX requeue_open ON headrace.requeue (id) WHERE ended_at IS NULL;
-- The last one that a rule asked for: looked up every few seconds, in a table that is never purged.
CREATE INDEX requeue_by_rule ON headrace.requeue ((asked ->> 'rule'), id) WHERE automatic;

-- Numbers of what is sent again. They rise strictly for each consumer and partition, and begin with the time: a database
-- that was restored or made anew does not give one out twice.
CREATE TABLE headrace.requeue_number (
    source text NOT NULL,
    partition integer NOT NULL,
    last_seq bigint NOT NULL,
    PRIMARY KEY (source, partition)
) WITH (fillfactor = 50);

-- Whose turn it is to send, and until when it need not be asked again. It only saves work: two senders do no harm.
CREATE TABLE headrace.requeuer (
    one_row boolean PRIMARY KEY DEFAULT true CHECK (one_row),
    owner text NOT NULL DEFAULT '',
    until timestamptz NOT NULL DEFAULT '-infinity'
) WITH (fillfactor = 50);
INSERT INTO headrace.requeuer DEFAULT VALUES;

ALTER TABLE headrace.dead_letter DROP CONSTRAINT dead_letter_state_check;
UPDATE headrace.dead_letter SET state = 'recovered' WHERE state = 'resolved';
ALTER TABLE headrace.dead_letter
    ADD CONSTRAINT dead_letter_state_check CHECK (state IN ('dead', 'requeued', 'recovered', 'discarded')),
    ADD COLUMN stream text NOT NULL DEFAULT '',
    -- The last requeue that it was part of, and its place in it.
    ADD COLUMN requeue_id bigint REFERENCES headrace.requeue,
    ADD COLUMN requeue_rank integer,
    ADD COLUMN requeue_count integer NOT NULL DEFAULT 0,
    -- Requeued and not numbered yet: nothing of it has left.
    ADD COLUMN waiting boolean NOT NULL DEFAULT false,
    -- The last number it was given (header hr_seq), for which partition, and when Kafka or the outbox had it.
    ADD COLUMN requeue_seq bigint,
    ADD COLUMN requeue_partition integer,
    ADD COLUMN sent_at timestamptz,
    ADD CONSTRAINT dead_letter_waits_in_a_requeue CHECK (NOT waiting OR (state = 'requeued' AND requeue_id IS NOT NULL));
UPDATE headrace.dead_letter SET stream = coalesce(substring(topic FROM '[^.]*$'), 'orders');

CREATE INDEX dead_letter_by_source ON headrace.dead_letter (source, state, id);
CREATE INDEX dead_letter_by_tenant ON headrace.dead_letter (tenant_id, id);
CREATE INDEX dead_letter_by_requeue ON headrace.dead_letter (requeue_id, state, waiting, requeue_rank)
    WHERE requeue_id IS NOT NULL;
CREATE INDEX dead_letter_unsent ON headrace.dead_letter (source, requeue_partition, requeue_seq)
    WHERE state = 'requeued' AND NOT waiting AND sent_at IS NULL;
CREATE INDEX dead_letter_requeued_row ON headrace.dead_letter (outbox_id)
    WHERE state = 'requeued' AND outbox_id IS NOT NULL;

-- Who moved which letter, when and why; also what was purged. Nobody alters it.
CREATE TABLE headrace.dead_letter_audit (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor text NOT NULL CHECK (actor <> ''),
    why text NOT NULL,
    -- No reference: the letter may be purged.
    letter_id bigint NOT NULL,
    from_state text NOT NULL,
    to_state text NOT NULL,
    requeue_id bigint,
    requeue_seq bigint,
    -- The error that it died of, when it died.
    error_class text
);
CREATE INDEX dead_letter_audit_by_letter ON headrace.dead_letter_audit (letter_id, id);

CREATE OR REPLACE FUNCTION headrace.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '%.% is append-only: % is refused', TG_TABLE_SCHEMA, TG_TABLE_NAME, TG_OP
        USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON headrace.dead_letter_audit
    FOR EACH ROW EXECUTE FUNCTION headrace.refuse_change();
CREATE TRIGGER append_only_truncate BEFORE TRUNCATE ON headrace.dead_letter_audit
    FOR EACH STATEMENT EXECUTE FUNCTION headrace.refuse_change();
-- A truncated table of letters would leave no trace of them.
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON headrace.dead_letter
    FOR EACH STATEMENT EXECUTE FUNCTION headrace.refuse_change();

-- Every change of a letter's state, whoever makes it, is one of these, has its reason, and leaves its line.
-- `headrace.actor` and `headrace.why` are set for the transaction; a process that sets none is named by its connection.
CREATE FUNCTION headrace.letter_moved() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    who text := coalesce(
        nullif(current_setting('headrace.actor', true), ''), nullif(current_setting('application_name'), ''), session_user);
    reason text := coalesce(current_setting('headrace.why', true), '');
    next_state text := CASE WHEN TG_OP = 'DELETE' THEN 'purged' ELSE NEW.state END;
    move text := OLD.state || ' -> ' || next_state;
BEGIN
    IF move NOT IN (
        'dead -> requeued', 'requeued -> recovered', 'requeued -> dead', 'dead -> discarded',
        -- A slow owner's failure, after which the next owner's success is told.
        'dead -> recovered',
        -- A row of the outbox that the relay met again, after Redis lost what was published.
        'recovered -> dead',
        'recovered -> purged', 'discarded -> purged'
    ) THEN
        RAISE EXCEPTION 'dead letter %: % is not possible', OLD.id, move USING ERRCODE = 'check_violation';
    END IF;
    IF reason = '' AND move IN ('dead -> requeued', 'dead -> discarded', 'recovered -> purged', 'discarded -> purged') THEN
        RAISE EXCEPTION 'dead letter %: % needs a reason: set headrace.why', OLD.id, move USING ERRCODE = 'check_violation';
    END IF;
    INSERT INTO headrace.dead_letter_audit
        (actor, why, letter_id, from_state, to_state, requeue_id, requeue_seq, error_class)
    SELECT who, reason, OLD.id, OLD.state, next_state,
        CASE WHEN TG_OP = 'DELETE' THEN OLD.requeue_id ELSE NEW.requeue_id END,
        CASE WHEN TG_OP = 'DELETE' THEN OLD.requeue_seq ELSE NEW.requeue_seq END,
        CASE WHEN next_state = 'dead' THEN NEW.error_class END;
    RETURN NULL;
END $$;
CREATE TRIGGER audited_update AFTER UPDATE OF state ON headrace.dead_letter
    FOR EACH ROW WHEN (OLD.state IS DISTINCT FROM NEW.state) EXECUTE FUNCTION headrace.letter_moved();
CREATE TRIGGER audited_delete AFTER DELETE ON headrace.dead_letter
    FOR EACH ROW EXECUTE FUNCTION headrace.letter_moved();

INSERT INTO headrace.schema_version (version, name) VALUES (3, 'dead_letters');
