from __future__ import annotations

import re

from streams.migrate import migrations


def test_versions_have_no_gap_and_each_step_records_itself():
    steps = migrations()
    assert [step.version for step in steps] == list(range(1, len(steps) + 1))
    for step in steps:
        assert f"VALUES ({step.version}, '{step.name}')" in step.sql


def test_no_step_touches_the_outbox():
    for step in migrations():
        statements = re.sub(r"--.*", "", step.sql)
        assert not re.search(r"\boutbox\b", statements)
