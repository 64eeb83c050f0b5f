"""The operators' API: dead letters and what else people move by hand, with PostgreSQL behind it."""
