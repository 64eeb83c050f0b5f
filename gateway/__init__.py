"""The delivery edge: follows the push topics and serves browsers over SSE, together with the page and table queries."""
