"""The checks of `headrace doctor`, one file a server."""
