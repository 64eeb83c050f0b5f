"""`headrace replay`: windows recomputed from the source topic and sent to the owners of their rows.

A process of its own with a reader of its own, in no consumer group. The way of it: `plan` (what to read) -> `reading`
(records to windows, tables.recompute) -> `current` (the rows that the table has) -> `applying` (commands and answers;
the other end is agents.backfill). `run` puts them together, `job` keeps what a kill must not cost.
"""
