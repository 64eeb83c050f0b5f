"""The parts of `headrace dev`: sample shop, listening client, supervisor, recount and report."""
