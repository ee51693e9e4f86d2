"""Who computes the features of an encoder."""
