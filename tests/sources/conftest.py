"""What the tests of the published layouts share: small trees, and what a reader made of them."""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from chiasm.study import Rejected, Study


@pytest.fixture
def picture() -> Callable[..., Path]:
    """Write a gray picture of random pixels, the same for the same name."""

    def write(path: Path, height: int = 8, width: int = 8) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(sum(path.name.encode())).integers(0, 256, (height, width), np.uint8)
        Pillow.fromarray(pixels).save(path)
        return path

    return write


@pytest.fixture
def sort_out() -> Callable[[Iterable[Study | Rejected]], tuple[dict[str, Study], dict[str, str]]]:
    """Studies by id, and the reasons of what was rejected by place."""

    def sort(items: Iterable[Study | Rejected]) -> tuple[dict[str, Study], dict[str, str]]:
        items = list(items)
        studies = {item.study_id: item for item in items if isinstance(item, Study)}
        rejected = {item.where: item.reason for item in items if isinstance(item, Rejected)}
        assert len(studies) + len(rejected) == len(items), "a study id or a place came twice"
        return studies, rejected

    return sort
