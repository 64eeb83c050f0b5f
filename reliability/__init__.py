"""Failure policies, free of any transport: they say how long to wait and when to stop, nothing more."""
