"""Folders of foreign models: their code is not run, and pickled weights are read only where that is allowed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tiny_bert import save_tiny_bert

from chiasm.errors import RecipeError
from chiasm.models.pretrained import ALLOW_PICKLE, load_pretrained
from chiasm.report.tokenizer import PretrainedTokenizer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_tiny_bert(tmp_path / "bert", layers=1)
    return tmp_path / "bert"


@pytest.fixture
def spiteful(folder: Path, tmp_path: Path) -> Path:
    """The folder names code of its own for the model and the tokenizer, which would leave a file behind."""
    code = (
        f"open({str(tmp_path / 'ran')!r}, 'w').close()\nfrom transformers import BertModel as Mine, BertConfig as Own\n"
    )
    (folder / "code.py").write_text(code)
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "mine", "auto_map": {"AutoConfig": "code.Own", "AutoModel": "code.Mine"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer_config.json").write_text(json.dumps({"auto_map": {"AutoTokenizer": ["code.Mine", None]}}))
    return folder


def test_a_model_of_transformers_own_is_loaded(folder: Path) -> None:
    assert load_pretrained(str(folder), "here").config.num_hidden_layers == 1


@pytest.mark.parametrize("load", [lambda name: load_pretrained(name, "inputs.text.encoder"), PretrainedTokenizer])
def test_code_of_a_folder_is_never_run_and_nobody_is_asked(
    load: object, spiteful: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("somebody is asked"))
    with pytest.raises(RecipeError):
        load(str(spiteful))  # type: ignore[operator]
    assert not (tmp_path / "ran").exists()


def test_weights_without_safetensors_are_read_only_where_that_is_allowed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = load_pretrained(str(folder), "here").state_dict()
    torch.save(weights, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    monkeypatch.delenv(ALLOW_PICKLE, raising=False)
    with pytest.raises(RecipeError) as caught:
        load_pretrained(str(folder), "here")
    assert ALLOW_PICKLE in caught.value.remedy
    monkeypatch.setenv(ALLOW_PICKLE, "1")
    loaded = load_pretrained(str(folder), "here").state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in weights.items())


@pytest.mark.parametrize("text", ["{", "[]", '{"model_type": 7}', "[" * 5000])
def test_a_damaged_folder_is_an_error_of_ours(text: str, folder: Path) -> None:
    (folder / "config.json").write_text(text)
    with pytest.raises(RecipeError, match="cannot be loaded"):
        load_pretrained(str(folder), "here")
