"""Generative models with known truth: what the phantom sources are made of."""
