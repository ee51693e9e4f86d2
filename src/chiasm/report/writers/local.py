"""A language model on this machine: a GGUF file, or a folder as Hugging Face keeps them, through transformers."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from chiasm.errors import MissingExtraError, WriterError
from chiasm.report.writers.ask import Message, Unanswered

NEW_TOKENS = 512


class LocalModel:
    """Answers greedily, so that the same question has the same answer. It reads text alone, one question at a time.

    Raises:
        WriterError: no such file or folder, or it cannot be loaded. MissingExtraError: a GGUF file without `gguf` and `accelerate`.
    """

    parallel, reads_images = 1, False

    def __init__(self, path: Path, new_tokens: int = NEW_TOKENS) -> None:
        self.name, self.model, self._new = f"local:{path.name}", path.name, new_tokens
        gguf = path.suffix.lower() == ".gguf"
        if not (path.is_file() if gguf else (path / "config.json").is_file()):
            raise WriterError(
                "no language model was found",
                expected="a .gguf file, or a folder with config.json, tokenizer and safetensors",
                where=str(path),
            )
        for package in ("gguf", "accelerate") if gguf else ():
            if importlib.util.find_spec(package) is None:
                raise MissingExtraError(package, "llm", "reading a GGUF file")
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        folder = str(path.parent if gguf else path)
        options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        options |= {"gguf_file": path.name} if gguf else {}
        loud = logging.getLogger("transformers")
        level = loud.level
        loud.setLevel(logging.ERROR)
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(folder, **options)
            self._net = AutoModelForCausalLM.from_pretrained(
                folder, dtype=torch.float32, use_safetensors=True, **options
            )
        except Exception as error:  # noqa: BLE001 (whatever a foreign file makes the library raise)
            raise WriterError(
                "the language model cannot be loaded",
                expected="a causal language model that transformers knows, with its tokenizer, as GGUF or safetensors",
                got=type(error).__name__,
                where=str(path),
            ) from None
        finally:
            loud.setLevel(level)
        self._net.eval().to("cuda" if torch.cuda.is_available() else "cpu")

    def reply(self, messages: Sequence[Message], schema: dict[str, Any], seed: int) -> str:
        import torch

        torch.manual_seed(seed)
        ids = self._encode(messages).to(self._net.device)
        holds = getattr(self._net.config, "max_position_embeddings", None)
        if holds is not None and ids.shape[1] + self._new > holds:
            raise Unanswered(
                f"the question has {ids.shape[1]} tokens and the answer up to {self._new}; the model holds {holds}"
            )
        with torch.inference_mode():
            out = self._net.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=self._new,
                do_sample=False,
                pad_token_id=self._tokenizer.eos_token_id,
            )
        return str(self._tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True))

    def _encode(self, messages: Sequence[Message]) -> Any:
        """[1, T] token ids, in the model's own form of a conversation where it has one."""
        told = [{"role": m["role"], "content": _words(m["content"])} for m in messages]
        if self._tokenizer.chat_template:
            text = self._tokenizer.apply_chat_template(told, add_generation_prompt=True, tokenize=False)
        else:
            text = "\n\n".join(m["content"] for m in told) + "\n\n"
        special = not self._tokenizer.chat_template
        return self._tokenizer(text, add_special_tokens=special, return_tensors="pt")["input_ids"]


def _words(content: Any) -> str:
    return content if isinstance(content, str) else "\n".join(part.get("text", "") for part in content)
