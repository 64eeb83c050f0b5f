"""How events move: outbox, relay, Redis Streams, mirror, Kafka topics, micro-batches."""
