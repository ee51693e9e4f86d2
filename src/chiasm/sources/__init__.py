"""Readers of published layouts and of your own tables, one file a layout."""
