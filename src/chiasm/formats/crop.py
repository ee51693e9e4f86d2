"""The crop of a burned-in footer from a picture, before it is stored."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

CROPS = ("", "footer")
_DARK, _STROKES, _GAP, _TALLEST, _WIDTH = 16, 0.4, 3, 25, 0.1


def find_footer(pixels: NDArray[np.uint8]) -> int:
    """How many rows at the lower edge are a burned-in line or two of text; 0 if none.

    A row of text is thin strokes: its gray values change from pixel to pixel by nearly as much as they sum up to, where
    anatomy changes by a fraction. From the lower edge upwards, rows of strokes belong to the footer, with gaps of up to
    two dark rows between them, until a row of anatomy, a wider gap, or 25 rows.

    Args:
        pixels: [H, W].
    """
    rows = pixels[::-1][: min(_TALLEST, len(pixels) - 1)].astype(np.float64)
    strokes = np.abs(np.diff(rows, axis=1)).sum(axis=1) / (rows.sum(axis=1) + 1)
    lit = (rows > _DARK).mean(axis=1)
    footer = 0
    for number, (share_lit, share_strokes) in enumerate(zip(lit.tolist(), strokes.tolist(), strict=True)):
        if share_lit and share_strokes < _STROKES:
            break
        if share_lit:
            footer = number + 1
        elif number + 1 - footer >= _GAP:
            break
    return footer if footer and lit[:footer].max() > _WIDTH else 0
