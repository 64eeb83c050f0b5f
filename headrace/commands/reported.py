"""How a command ends: its exit status, and one line for an error of ours."""

from __future__ import annotations

from collections.abc import Callable


def reported(command: Callable[[], int]) -> int:
    """The command's exit status; an error of ours becomes one line on standard error."""
    from contracts.errors import HeadraceError
    from runtime.process import report

    try:
        return command()
    except HeadraceError as error:
        return report(error)
