"""What is done with events, one file an agent; pure work here, all waiting in `agents.runner`."""
