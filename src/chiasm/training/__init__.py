"""From a recipe and cohorts to a run."""
