"""Our own schema, step by step: one SQL file a version, forward only; each records itself in its last statement."""
