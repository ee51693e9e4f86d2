"""Rows of cohorts as tensors."""
