"""From a queued job to its result in the outbox."""
