"""Composition root and command line: builds the processes from settings. Nothing imports it."""
