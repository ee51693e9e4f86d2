"""Figures with intervals, from NumPy arrays."""
