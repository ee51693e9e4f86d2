"""Pretrained encoders by family: what docs/encoders.md says of each is what a tiny model of it does here."""

import os
from pathlib import Path

import torch
from families import IMAGE, ONE_CHANNEL, OTHER_SIDE, SIDE, TEXT, save_family

from chiasm.errors import RecipeError
from chiasm.models.image.encoder import ImageEncoder
from chiasm.recipe import ImageInput, TextInput
from chiasm.report.tokenizer import Tokenizer, build_tokenizer

PAGE = Path(__file__).parents[2] / "docs" / "encoders.md"
READ, REFUSED = "yes", "refused before training"


def _read_images(name: str, side: int, channels: int = 1) -> str:
    """Whether an encoder reads images of this side, frozen and learning, and studies without one; why not, if it is refused."""
    try:
        encoder = ImageEncoder(ImageInput(encoder=name, freeze=False), (side, side), (4, 4), 16, channels)
        pixels = torch.randint(0, 256, (2, 1, channels, side, side), generator=torch.Generator().manual_seed(0))
        encoder.eval().extract(pixels[:, 0])
    except RecipeError:
        return REFUSED
    except Exception:  # noqa: BLE001  training tries it once with a blank image, and refuses it by the same fault
        return REFUSED
    one, none = torch.tensor([[True], [False]]), torch.zeros(2, 1, dtype=torch.bool)
    view = torch.zeros(2, 1, dtype=torch.long)
    tokens = encoder(pixels.byte(), one, view)
    assert tokens.values.shape == (2, 16, 16)
    assert torch.isfinite(tokens.values).all()
    tokens.values.square().sum().backward()
    assert any(p.grad is not None and p.grad.any() for p in encoder.backbone.parameters()), "it learns"
    encoder.zero_grad()
    for shown in (torch.enable_grad(), torch.no_grad()):
        with shown:
            assert not encoder(pixels.byte(), none, view).values.any()
    return READ


def _read_texts(name: str) -> str:
    """Whether an encoder reads texts, each as it is read alone, frozen and learning."""
    options = TextInput(encoder=name, freeze=False)
    try:
        reader = build_tokenizer(options, Tokenizer.train([]))
        encoder = options.part.build(options, len(reader), 8, 0.0).eval()
        ids = [torch.tensor(row) for row in reader.encode_batch(["large left effusion .", "no effusion"])]
        padded = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True)
        mask = torch.arange(padded.shape[1]) < torch.tensor([[len(row)] for row in ids])
        together = encoder(padded, mask).values
    except RecipeError:
        return REFUSED
    for i, row in enumerate(ids):
        alone = encoder(row[None], torch.ones(1, len(row), dtype=torch.bool)).values[0]
        torch.testing.assert_close(together[i, : len(row)], alone, atol=1e-5, rtol=1e-4)
    together[mask].square().sum().backward()
    assert any(p.grad is not None and p.grad.any() for p in encoder.backbone.parameters()), "it learns"
    return READ


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _check(title: str, table: str) -> None:
    """Hold the page to a table; with CHIASM_WRITE_TABLES=1 in the environment, write it there."""
    begin, end = f"<!-- {title} -->\n", f"\n<!-- end of {title} -->"
    page = PAGE.read_text("utf-8")
    before, after = page.split(begin)[0], page.split(end)[1]
    made = before + begin + table + end + after
    if os.environ.get("CHIASM_WRITE_TABLES"):
        PAGE.write_text(made, "utf-8")
    assert PAGE.read_text("utf-8") == made, (
        "CHIASM_WRITE_TABLES=1 pytest tests/models/test_families.py writes the tables"
    )


def test_the_page_says_which_families_of_image_models_are_read(tmp_path):
    rows = []
    for name, (model, _) in IMAGE.items():
        own = save_family(tmp_path / name, IMAGE, name)
        gray = "not tried"
        if name in ONE_CHANNEL:
            gray = _read_images(save_family(tmp_path / f"{name} gray", IMAGE, name, num_channels=1), SIDE)
        sizes = [_read_images(own, side) for side in (SIDE, OTHER_SIDE)]
        rows.append([name, f"`{model.__name__}`", *sizes, _read_images(own, SIDE, 3), gray])
    assert sum(row[2] == READ for row in rows) >= len(rows) - 5
    header = ["family", "class", "images of its size", "of another size", "three windows", "a model of one channel"]
    _check("table of image models", _table(header, rows))


def test_the_page_says_which_families_of_text_models_are_read(tmp_path):
    rows = [[n, f"`{m.__name__}`", _read_texts(save_family(tmp_path / n, TEXT, n))] for n, (m, _) in TEXT.items()]
    assert sum(row[2] == READ for row in rows) >= len(rows) - 2
    _check("table of text models", _table(["family", "class", "texts"], rows))
