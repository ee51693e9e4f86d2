"""Formulas of losses."""
