"""Stroke: atlas, measurements of lesions, phantom brain and outcome."""
