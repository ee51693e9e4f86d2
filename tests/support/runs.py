"""Runs that tests change."""

import shutil

UNSEALED = shutil.ignore_patterns("files.json")
"""Copies a run without its hashes, as of a training before there were any: what a test changes in it is then read."""
