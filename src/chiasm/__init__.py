"""chiasm: models that read a medical image, the radiology report and the chart together, with the evidence. Not for clinical use."""
