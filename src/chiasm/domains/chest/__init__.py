"""The chest: phantom, anatomy, lesions, reports, outcome."""
