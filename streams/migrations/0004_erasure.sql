-- Erasing a tenant: who asked for it and when it was done, and dead letters that are deleted whatever their state.

ALTER TABLE headrace.tenant_audit DROP CONSTRAINT tenant_audit_move_check;
ALTER TABLE headrace.tenant_audit
    ADD CONSTRAINT tenant_audit_move_check CHECK (move IN ('pause', 'resume', 'erase', 'erased'));

-- A letter of an erased tenant leaves a line as any other that is deleted: who, when, why, and nothing of its content.
-- `headrace.erasing` is set for the transaction that erases.
CREATE FUNCTION headrace.letter_erased() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF coalesce(current_setting('headrace.actor', true), '') = '' OR coalesce(current_setting('headrace.why', true), '') = ''
    THEN
        RAISE EXCEPTION 'dead letter %: an erasure needs a name and a reason: set headrace.actor and headrace.why', OLD.id
            USING ERRCODE = 'check_violation';
    END IF;
    INSERT INTO headrace.dead_letter_audit
        (actor, why, letter_id, from_state, to_state, requeue_id, requeue_seq)
    VALUES (current_setting('headrace.actor'), current_setting('headrace.why'), OLD.id, OLD.state, 'erased',
        OLD.requeue_id, OLD.requeue_seq);
    RETURN NULL;
END $$;
DROP TRIGGER audited_delete ON headrace.dead_letter;
CREATE TRIGGER audited_delete AFTER DELETE ON headrace.dead_letter
    FOR EACH ROW WHEN (coalesce(current_setting('headrace.erasing', true), '') <> 'yes')
    EXECUTE FUNCTION headrace.letter_moved();
CREATE TRIGGER audited_erasure AFTER DELETE ON headrace.dead_letter
    FOR EACH ROW WHEN (current_setting('headrace.erasing', true) = 'yes') EXECUTE FUNCTION headrace.letter_erased();

INSERT INTO headrace.schema_version (version, name) VALUES (4, 'erasure');
