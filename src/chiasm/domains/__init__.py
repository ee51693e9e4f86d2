"""What only one organ needs."""
