"""Tiny models of the families of transformers, each made from its own configuration with random weights."""

from pathlib import Path
from typing import Any

import torch
import transformers as t
from tiny_bert import WORDS, save_tokenizer

SIDE, OTHER_SIDE = 64, 96
"""Pixels of an image as the models are made for, and of another size."""

_VIT = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
_SQUARE = {**_VIT, "image_size": SIDE, "patch_size": 16}
_STAGES = {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1]}
_WINDOWS = {"image_size": SIDE, "patch_size": 4, "embed_dim": 8, "depths": [1, 1, 1]}
_WORDS = {**_VIT, "vocab_size": len(WORDS)}
_DINO = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 56, "patch_size": 14}

IMAGE: dict[str, tuple[type[t.PreTrainedModel], dict[str, Any]]] = {
    "ViT": (t.ViTModel, _SQUARE),
    "DeiT": (t.DeiTModel, _SQUARE),
    "BEiT": (t.BeitModel, _SQUARE),
    "Data2Vec": (t.Data2VecVisionModel, _SQUARE),
    "ViT-MAE": (t.ViTMAEModel, _SQUARE),
    "ViT-MSN": (t.ViTMSNModel, _SQUARE),
    "I-JEPA": (t.IJepaModel, _SQUARE),
    "DINOv2": (t.Dinov2Model, {**_DINO, "mlp_ratio": 1}),
    "DINOv2 with registers": (t.Dinov2WithRegistersModel, {**_DINO, "mlp_ratio": 1}),
    "DINOv3 ViT": (t.DINOv3ViTModel, {**_SQUARE, "num_register_tokens": 4}),
    "DINOv3 ConvNeXt": (t.DINOv3ConvNextModel, _STAGES),
    "CLIP, its vision half": (t.CLIPVisionModel, _SQUARE),
    "CLIP": (t.CLIPModel, {"text_config": _WORDS, "vision_config": _SQUARE}),
    "SigLIP, its vision half": (t.SiglipVisionModel, _SQUARE),
    "SigLIP": (t.SiglipModel, {"text_config": _WORDS, "vision_config": _SQUARE}),
    "SigLIP 2, of any aspect": (t.Siglip2VisionModel, {**_VIT, "num_patches": 16, "patch_size": 16}),
    "Swin": (t.SwinModel, {**_WINDOWS, "num_heads": [1, 2, 2], "window_size": 4}),
    "Swin v2": (t.Swinv2Model, {**_WINDOWS, "num_heads": [1, 2, 2], "window_size": 4}),
    "Hiera": (
        t.HieraModel,
        {**_WINDOWS, "image_size": [SIDE, SIDE], "num_heads": [1, 2, 4], "query_stride": [2, 2], "num_query_pool": 2,
         "patch_size": [7, 7]},
    ),
    "FocalNet": (t.FocalNetModel, {**_WINDOWS, "focal_levels": [1, 1, 1], "focal_windows": [3, 3, 3]}),
    "ResNet": (t.ResNetModel, {**_STAGES, "embedding_size": 8, "layer_type": "basic"}),
    "ConvNeXt": (t.ConvNextModel, _STAGES),
    "ConvNeXt v2": (t.ConvNextV2Model, _STAGES),
    "RegNet": (t.RegNetModel, {**_STAGES, "embedding_size": 8, "groups_width": 8}),
    "MobileNet v1": (t.MobileNetV1Model, {"depth_multiplier": 0.25}),
    "MobileNet v2": (t.MobileNetV2Model, {"depth_multiplier": 0.25}),
    "MobileViT": (
        t.MobileViTModel,
        {"hidden_sizes": [8, 8, 8], "neck_hidden_sizes": [8, 8, 8, 8, 8, 8, 16], "num_attention_heads": 2},
    ),
    "EfficientNet": (
        t.EfficientNetModel, {"width_coefficient": 0.25, "depth_coefficient": 0.1, "hidden_dim": 320}
    ),
    "SegFormer": (t.SegformerModel, {**_STAGES, "num_attention_heads": [1, 1, 2, 2]}),
    "PVT v2": (t.PvtV2Model, {**_STAGES, "image_size": SIDE, "num_attention_heads": [1, 1, 2, 2]}),
    "PVT": (t.PvtModel, {**_STAGES, "image_size": SIDE, "num_attention_heads": [1, 1, 2, 2]}),
    "PoolFormer": (t.PoolFormerModel, _STAGES),
    "ViTDet": (t.VitDetModel, {k: v for k, v in _SQUARE.items() if k != "intermediate_size"}),
    "LeViT": (
        t.LevitModel,
        {"image_size": SIDE, "hidden_sizes": [16, 16, 16], "num_attention_heads": [2, 2, 2], "depths": [1, 1, 1],
         "key_dim": [8, 8, 8]},
    ),
    "YOLOS": (t.YolosModel, {**_SQUARE, "image_size": [SIDE, SIDE], "num_detection_tokens": 5}),
}  # fmt: skip

TEXT: dict[str, tuple[type[t.PreTrainedModel], dict[str, Any]]] = {
    "BERT": (t.BertModel, _WORDS),
    "DistilBERT": (
        t.DistilBertModel, {"vocab_size": len(WORDS), "dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 16}
    ),
    "RoBERTa": (t.RobertaModel, {**_WORDS, "pad_token_id": 0}),
    "ALBERT": (t.AlbertModel, {**_WORDS, "embedding_size": 8}),
    "ELECTRA": (t.ElectraModel, {**_WORDS, "embedding_size": 8}),
    "MPNet": (t.MPNetModel, {**_WORDS, "pad_token_id": 0}),
    "DeBERTa v2": (t.DebertaV2Model, _WORDS),
    "ModernBERT": (
        t.ModernBertModel, {**_WORDS, "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3, "cls_token_id": 2,
                            "sep_token_id": 3}
    ),
    "GPT-2": (t.GPT2Model, {"vocab_size": len(WORDS), "n_embd": 16, "n_layer": 1, "n_head": 2}),
    "Llama": (t.LlamaModel, _WORDS),
    "T5": (
        t.T5Model, {"vocab_size": len(WORDS), "d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2}
    ),
    "BART": (
        t.BartModel,
        {"vocab_size": len(WORDS), "d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "pad_token_id": 0,
         "encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16},
    ),
    "CLIP, its text half": (t.CLIPTextModel, {**_WORDS, "eos_token_id": 3}),
    "CLIP": (t.CLIPModel, {"text_config": {**_WORDS, "eos_token_id": 3}, "vision_config": _SQUARE}),
}  # fmt: skip

ONE_CHANNEL = ("ViT", "DINOv2", "Swin", "ResNet", "ConvNeXt", "MobileNet v2")
"""Families of which a model of one channel is tried as well."""


def save_family(folder: Path, of: dict[str, Any], name: str, **changed: Any) -> str:
    """Save a tiny model of a family, with its tokenizer or preprocessing -> its name in a recipe."""
    model, settings = of[name]
    torch.manual_seed(0)
    made = model(model.config_class(**settings, **changed))
    made.save_pretrained(folder)
    if of is TEXT:
        save_tokenizer(folder)
    else:
        channels = changed.get("num_channels", 3)
        processor = t.ViTImageProcessorPil(image_mean=[0.5] * channels, image_std=[0.25] * channels)
        processor.save_pretrained(folder)
    return f"hf:{folder}"
