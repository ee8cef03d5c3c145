"""Decisions. Nothing here does I/O, reads a clock, draws a random number or writes a log.

What the decisions need to know of the cluster is passed in; import-linter keeps it so.
"""
