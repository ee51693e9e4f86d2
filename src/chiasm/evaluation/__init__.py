"""Figures, controls, evidence and the page of a run."""
