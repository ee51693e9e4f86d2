"""A burned-in footer is found by its strokes, and anatomy is never taken for one."""

import numpy as np
import pytest
from pictures import with_footer

from chiasm.formats.crop import find_footer


@pytest.mark.parametrize("lines", [1, 2])
def test_a_footer_is_found_whatever_its_lines(lines: int) -> None:
    pixels = with_footer(lines)
    kept = len(pixels) - find_footer(pixels)
    assert 200 <= kept <= 200 + 4  # dark rows above the first stroke may stay
    assert not (pixels[200:kept] > 16).any()


def test_pictures_without_a_footer_are_left_whole() -> None:
    y, x = np.mgrid[:200, :300]
    smooth = (100 + 50 * np.sin(x / 9) + y / 4).astype(np.uint8)
    black = np.zeros((200, 300), np.uint8)
    table = black.copy()
    table[185:195, 20:22] = 200  # two legs of a couch: strokes, but no line of text
    above = with_footer(1).copy()
    above[-12:] = 0
    for pixels in (smooth, black, table, above, smooth[:1], smooth[:, :1]):
        assert find_footer(pixels) == 0
