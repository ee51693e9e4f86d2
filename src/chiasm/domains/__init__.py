"""Knowledge that only one organ needs."""
