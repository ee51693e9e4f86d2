"""One study, one answer: calibrated, located on the original pixels, with what each modality added; files in, files out."""

from chiasm.predict.combine import map_threshold, predict_members
from chiasm.predict.folder import predict_inputs, to_json

__all__ = ["map_threshold", "predict_inputs", "predict_members", "to_json"]
