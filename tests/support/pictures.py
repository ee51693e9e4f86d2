"""Pictures that several tests draw."""

import numpy as np
from PIL import Image as Pillow
from PIL import ImageDraw


def with_footer(lines: int, height: int = 200, width: int = 300) -> np.ndarray:
    """A disk of soft tissue over a black band with white text, as MedPix burns it in."""
    y, x = np.mgrid[:height, :width]
    pixels = np.where(
        (y - height / 2) ** 2 + (x - width / 2) ** 2 < (height / 2 + 9) ** 2, 100 + (7 * x + 3 * y) % 60, 0
    ).astype(np.uint8)
    band = Pillow.new("L", (width, 12 * lines))
    for line in range(lines):
        ImageDraw.Draw(band).text((30, 12 * line - 1), "0548c9b5-2b5b, Uploader : A Name, 05-20-2005", fill=130)
    return np.concatenate([pixels, np.asarray(band)])
