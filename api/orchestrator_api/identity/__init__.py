"""Who calls the public API, and what they may do."""
