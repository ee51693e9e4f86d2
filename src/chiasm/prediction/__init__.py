"""Answers for files, study folders and cohorts."""
