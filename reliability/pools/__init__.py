"""Bounded places to run work: `pools.io` for calls that wait, `pools.cpu` for functions that compute."""
