"""A text model small enough to be made in a test: a BERT of one layer and a few words, in a folder as transformers keep it."""

from pathlib import Path

import tokenizers
import torch
import transformers

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "no", "effusion", ".", "left", "right", "large", "small", "pneumothorax")


def save_tokenizer(folder: Path) -> None:
    """A tokenizer of these words, whose specials are those of a BERT."""
    vocabulary = {word: i for i, word in enumerate(WORDS)}
    backend = tokenizers.Tokenizer(tokenizers.models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.normalizer = tokenizers.normalizers.Lowercase()
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    backend.post_processor = tokenizers.processors.TemplateProcessing(
        "[CLS] $A [SEP]", None, [("[CLS]", 2), ("[SEP]", 3)]
    )
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]"
    ).save_pretrained(folder)


def save_tiny_bert(folder: Path, layers: int = 1) -> str:
    """-> the name under which a recipe's `inputs.text.encoder` finds it."""
    save_tokenizer(folder)
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=layers, num_attention_heads=2, intermediate_size=16
    )
    transformers.BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    return f"hf:{folder}"
