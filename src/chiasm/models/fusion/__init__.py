"""Fusion families, {modality: Tokens} in, Fused out; `needs` names the inputs without which a family is not itself."""
