"""Models of Hugging Face from the hub or a folder, without any of its code and, unless allowed, without pickle."""

from __future__ import annotations

import os
from typing import Any

from chiasm.errors import RecipeError

ALLOW_PICKLE = "CHIASM_ALLOW_PICKLED_WEIGHTS"
"""The environment variable that, set to 1, allows weights in a form that torch unpickles (pytorch_model.bin)."""


def load_pretrained(name: str, where: str) -> Any:
    """The network of a model id or a local folder.

    Its own code is never run (nor is anyone asked whether to), and its weights are safetensors; pytorch_model.bin is read only
    where the environment allows it, and then by torch's restricted unpickler.

    Args:
        where: the key of the recipe that names it.

    Raises:
        RecipeError: no such model, one that needs code of its own, or without weights in safetensors.
    """
    from transformers import AutoModel

    allowed = os.environ.get(ALLOW_PICKLE) == "1"
    try:
        return AutoModel.from_pretrained(name, trust_remote_code=False, use_safetensors=None if allowed else True)
    except Exception as error:  # noqa: BLE001 (whatever a foreign folder makes the library raise)
        raise RecipeError(
            "the Hugging Face model cannot be loaded",
            expected="a model id of the hub or a local folder, with safetensors and of a kind that transformers itself knows",
            got=f"{name} ({type(error).__name__})",
            where=where,
            remedy="check the name and the connection; a model with code of its own is not run; weights in pytorch_model.bin are read "
            f"where {ALLOW_PICKLE}=1 is set, if you trust where they come from",
        ) from None
