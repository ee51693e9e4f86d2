"""Pages drawn from plain data."""
