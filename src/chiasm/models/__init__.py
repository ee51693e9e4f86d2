"""Encoders, fusion families and their assembly."""
