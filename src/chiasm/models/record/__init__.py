"""Record encoders."""
