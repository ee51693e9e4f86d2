import pytest
import torch

from chiasm.checkpoint import pack, random_state, read_checkpoint, restore_random_state, write_checkpoint
from chiasm.errors import RunError


def test_what_is_written_is_read_again(tmp_path):
    shared = torch.arange(6.0)
    content = {
        "state": {0: {"step": torch.tensor(3.0), "avg": shared[:3]}, 1: {"avg": shared[3:].view(3, 1)}},
        "betas": (0.9, 0.999),
        "nothing": None,
        "list": [1, "two", True, {"deep": torch.zeros(0, dtype=torch.int64)}],
    }
    write_checkpoint(content, tmp_path / "a.safetensors")
    found = read_checkpoint(tmp_path / "a.safetensors")
    assert found["betas"] == (0.9, 0.999)
    assert found["nothing"] is None
    assert found["list"][:3] == [1, "two", True]
    assert found["state"].keys() == {0, 1}
    assert torch.equal(found["state"][1]["avg"], torch.tensor([[3.0], [4.0], [5.0]]))
    assert found["list"][3]["deep"].dtype == torch.int64


def test_an_object_is_refused_when_saving():
    with pytest.raises(TypeError, match="data and tensors only"):
        pack({"callback": object()}, {})


def test_a_damaged_file_says_where(tmp_path):
    path = tmp_path / "a.safetensors"
    write_checkpoint({"x": torch.ones(5)}, path)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(RunError, match="cannot be read"):
        read_checkpoint(path)


def test_a_pickle_is_not_loaded(tmp_path):
    torch.save({"x": torch.ones(1)}, tmp_path / "a.safetensors")
    with pytest.raises(RunError):
        read_checkpoint(tmp_path / "a.safetensors")


def test_the_random_state_comes_back_as_it_was():
    torch.manual_seed(5)
    state = random_state()
    first = torch.rand(3)
    restore_random_state(state)
    assert torch.equal(torch.rand(3), first)
