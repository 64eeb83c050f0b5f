"""Who types a command is named in the audit, whatever the machine knows of them."""

from __future__ import annotations

import os
import pwd

import pytest

from headrace.commands.desk import who


def test_a_user_without_a_name_is_told_by_number(monkeypatch: pytest.MonkeyPatch):
    """A container runs under a number of its platform's choosing, which stands in no list of users."""

    def nobody(uid: int) -> pwd.struct_passwd:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.setattr(pwd, "getpwuid", nobody)
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    assert who().startswith(f"uid-{os.getuid()}@")
