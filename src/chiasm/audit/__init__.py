"""Checks that `chiasm inspect` makes of a cohort."""
