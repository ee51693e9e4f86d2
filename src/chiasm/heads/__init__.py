"""What a model answers: one file a head."""
