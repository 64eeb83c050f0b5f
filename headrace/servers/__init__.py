"""Servers that Headrace starts itself, for one person on one machine and for the tests.

Each module knows one server: where its program is, how it is started, when it is really ready. `headrace.embedded`
starts the three that a run needs; `child` holds what all of them share.
"""
