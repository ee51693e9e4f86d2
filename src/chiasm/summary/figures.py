"""The figures of the page: curves as SVG that follow the page's light and dark, overlays as pictures.

Curves are drawn in placeholder colours which are then exchanged for the CSS variables of the page, and their text stays
text, so one drawing serves screen, print and dark mode.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, SOFT, LINE, ACCENT, QUIET = "#010101", "#020202", "#030303", "#040404", "#050505"
_VARIABLES = {INK: "--ink", SOFT: "--soft", LINE: "--line", ACCENT: "--accent", QUIET: "--quiet"}
TRUTH_RGB, PREDICTED_RGB = (64, 224, 255), (255, 176, 32)  # told apart with any colour vision, and by solid and dashed
BAND_RESAMPLES = 200


@dataclass(frozen=True)
class Curve:
    """The scores of one label, from which its ROC, PR and reliability figures are drawn.

    Attributes:
        name: "target/label".
        truth: [n] bool; probability: [n] calibrated; raw: [n] before temperature.
        patient: [n] int code of each study's patient: bands resample patients, not studies.
    """

    name: str
    truth: NDArray[np.bool_]
    probability: NDArray[np.floating]
    raw: NDArray[np.floating]
    patient: NDArray[np.integer]


def roc_svg(curve: Curve, seed: int = 0) -> str:
    """True-positive rate over false-positive rate with a 95% pointwise band."""
    grid = np.linspace(0, 1, 101)
    line, low, high = _band(curve, lambda tp, fp: np.interp(grid, fp / fp[-1], tp / tp[-1]), seed)
    with _axes(curve.name, "ROC", "1 − specificity", "sensitivity") as (axes, out):
        axes.plot([0, 1], [0, 1], color=LINE, lw=1)
        axes.fill_between(grid, low, high, color=ACCENT, alpha=0.16, lw=0)
        axes.plot(grid, line, color=ACCENT, lw=1.8)
    return out.getvalue()


def pr_svg(curve: Curve, seed: int = 0) -> str:
    """Precision over recall with a 95% pointwise band; the level line is the share of positives."""
    grid = np.linspace(0.01, 1, 100)

    def precision(tp: NDArray[np.float64], fp: NDArray[np.float64]) -> NDArray[np.float64]:
        at = np.minimum(np.searchsorted(tp, grid * tp[-1] - 1e-9), len(tp) - 1)
        return np.asarray(tp[at] / (tp[at] + fp[at]))

    line, low, high = _band(curve, precision, seed)
    with _axes(curve.name, "Precision – recall", "recall", "precision") as (axes, out):
        axes.axhline(curve.truth.mean(), color=LINE, lw=1)
        axes.fill_between(grid, low, high, color=ACCENT, alpha=0.16, lw=0)
        axes.plot(grid, line, color=ACCENT, lw=1.8)
    return out.getvalue()


def reliability_svg(curve: Curve, bins: int = 10) -> str:
    """Observed frequency over predicted probability in bins of equal count, before and after temperature.

    Whiskers are 95% Wilson intervals; the strip at the foot shows where the probabilities lie.
    """
    with _axes(curve.name, "Reliability", "predicted probability", "observed frequency") as (axes, out):
        axes.plot([0, 1], [0, 1], color=LINE, lw=1)
        counts, edges = np.histogram(curve.probability, bins=25, range=(0, 1))
        axes.bar(edges[:-1], 0.14 * counts / counts.max(), width=0.04, align="edge", color=LINE, lw=0)
        predicted, observed, _ = _bins(curve.raw, curve.truth, bins)
        axes.plot(predicted, observed, color=QUIET, lw=1, marker="o", ms=4, mfc="none", label="before")
        predicted, observed, count = _bins(curve.probability, curve.truth, bins)
        low, high = _wilson(observed, count)
        axes.vlines(predicted, low, high, color=ACCENT, lw=1, alpha=0.5)
        axes.plot(predicted, observed, color=ACCENT, lw=1.4, marker="o", ms=4, label="after")
        axes.legend(loc="upper left", frameon=False, fontsize=8, labelcolor=SOFT, handlelength=1.4)
    return out.getvalue()


def overlay(
    pixels: NDArray[np.generic],
    boxes_truth: NDArray[np.floating],
    boxes_pred: NDArray[np.floating],
    heat: NDArray[np.floating] | None = None,
    *,
    mask_truth: NDArray[np.bool_] | None = None,
    max_side: int | None = None,
    format: str = "PNG",
) -> bytes:
    """A picture of one image with its truth (solid, blue), map (warm) and prediction (dashed, amber).

    Args:
        pixels: [H, W] gray in the original frame, any real dtype; drawn from its minimum to its maximum unless uint8.
        boxes_truth, boxes_pred: [n, 4] x_min, y_min, x_max, y_max in the same pixels.
        heat: [H, W] probabilities 0..1 on the same pixels, or None.
        mask_truth: [H, W]; its outline is drawn where a reader drew a mask instead of a box.
        max_side: shrink so that the longer side has at most this many pixels; None keeps the original size.
        format: "PNG", or "JPEG" for a page that must stay small.

    Raises:
        ValueError: `pixels` is not 2-D, or `heat` or `mask_truth` has another shape.
    """
    from PIL import Image, ImageDraw

    if pixels.ndim != 2:
        raise ValueError(f"pixels must be [H, W]. Got shape {pixels.shape} instead.")
    for name, array in (("heat", heat), ("mask_truth", mask_truth)):
        if array is not None and array.shape != pixels.shape:
            raise ValueError(f"{name} must have the shape of pixels, {pixels.shape}. Got {array.shape} instead.")
    rgb = np.repeat(_to_gray(pixels)[..., None], 3, axis=2).astype(np.float32)
    if heat is not None:
        rgb = _blend(rgb, np.clip(np.nan_to_num(np.asarray(heat, np.float32)), 0, 1))
    if mask_truth is not None:
        rgb[_outline(mask_truth)] = TRUTH_RGB
    picture = Image.fromarray(np.round(rgb).astype(np.uint8))
    scale = min(1.0, (max_side or max(picture.size)) / max(picture.size))
    if scale < 1:
        size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    draw, width = ImageDraw.Draw(picture), max(1, round(max(picture.size) / 200))
    for box in np.asarray(boxes_truth, float).reshape(-1, 4) * scale:
        _rectangle(draw, box, TRUTH_RGB, width, dashed=False)
    for box in np.asarray(boxes_pred, float).reshape(-1, 4) * scale:
        _rectangle(draw, box, PREDICTED_RGB, width, dashed=True)
    out = io.BytesIO()
    picture.save(out, format=format, **({"quality": 88} if format == "JPEG" else {}))
    return out.getvalue()


def _to_gray(pixels: NDArray[np.generic]) -> NDArray[np.float32]:
    values = np.asarray(pixels, np.float32)
    if pixels.dtype == np.uint8:
        return values
    low, high = float(values.min()), float(values.max())
    return (values - low) * np.float32(255 / (high - low)) if high > low else np.zeros_like(values)


def _blend(rgb: NDArray[np.float32], heat: NDArray[np.float32]) -> NDArray[np.float32]:
    """Warm colour over gray; low probabilities stay almost clear, so the image is never hidden."""
    from matplotlib import colormaps

    colour = np.asarray(colormaps["inferno"](0.3 + 0.6 * heat))[..., :3].astype(np.float32) * 255
    alpha = (0.55 * heat)[..., None]
    return (1 - alpha) * rgb + alpha * colour


def _outline(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    from scipy.ndimage import binary_dilation, binary_erosion

    reach = max(1, round(max(mask.shape) / 400))
    return np.asarray(binary_dilation(mask, iterations=reach) & ~binary_erosion(mask, iterations=reach))


def _rectangle(draw, box, colour, width: int, *, dashed: bool) -> None:  # type: ignore[no-untyped-def]
    """Draw a box whose maxima are exclusive edges."""
    x0, y0, x1, y1 = box[0], box[1], box[2] - 1, box[3] - 1
    corners = [(x0, y0), (x1, y0), (x1, y1), (x0, y1), (x0, y0)]
    for start, end in pairwise(corners):
        length = float(np.hypot(end[0] - start[0], end[1] - start[1]))
        dash = 4.0 * width if dashed else max(length, 1.0)
        direction = (np.asarray(end) - start) / max(length, 1e-9)
        for at in np.arange(0, max(length, 1e-6), 2 * dash if dashed else dash + 1):
            a, b = start + direction * at, start + direction * min(at + dash, length)
            draw.line([tuple(a), tuple(b)], fill=colour, width=width)


def _band(
    curve: Curve, shape: Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]], seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """A curve of cumulated (true, false) positives, and its 2.5 and 97.5 percentiles over patient resamples."""
    order = np.argsort(-curve.probability, kind="stable")
    truth, score, patient = curve.truth[order].astype(float), curve.probability[order], curve.patient[order]
    last = np.append(score[1:] != score[:-1], True)  # ties enter together

    def once(weight: NDArray[np.float64]) -> NDArray[np.float64] | None:
        tp = np.append(0, np.cumsum(weight * truth)[last])
        fp = np.append(0, np.cumsum(weight * (1 - truth))[last])
        return shape(tp, fp) if tp[-1] > 0 and fp[-1] > 0 else None

    rng = np.random.default_rng(seed)
    codes, patients = np.unique(patient, return_inverse=True)
    draws = rng.multinomial(len(codes), np.full(len(codes), 1 / len(codes)), size=BAND_RESAMPLES).astype(float)
    curves = [c for c in (once(draw[patients]) for draw in draws) if c is not None]
    line = once(np.ones(len(truth)))
    if line is None:
        raise ValueError(f"{curve.name}: a curve needs both positives and negatives.")
    low, high = np.percentile(curves, [2.5, 97.5], axis=0)
    return line, low, high


def _bins(
    probability: NDArray[np.floating], truth: NDArray[np.bool_], bins: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    order = np.argsort(probability, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    mean = [[probability[part].mean(), truth[part].mean()] for part in parts]
    predicted, observed = np.asarray(mean, np.float64).T
    return predicted, observed, np.asarray([len(part) for part in parts])


def _wilson(share: NDArray[np.float64], n: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The 95% interval of a share (Wilson 1927, eq. in J. Am. Stat. Assoc. 22:209)."""
    z = 1.959964
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return centre - half, centre + half


@contextmanager
def _axes(name: str, title: str, x: str, y: str) -> Iterator[tuple[Axes, io.StringIO]]:
    """A small square plot on 0..1; its SVG stands in the buffer once the block ends."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    out = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name + title, "font.size": 9}):
        figure = Figure(figsize=(3.1, 3.1), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        axes.set(xlim=(0, 1), ylim=(0, 1), xticks=[0, 0.5, 1], yticks=[0, 0.5, 1], aspect="equal")
        axes.set_title(title, loc="left", fontsize=10, color=INK)
        axes.set_xlabel(x, color=SOFT)
        axes.set_ylabel(y, color=SOFT)
        axes.tick_params(colors=SOFT, length=0)
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(LINE)
        yield axes, out
        figure.patch.set_alpha(0)
        axes.patch.set_alpha(0)
        raw = io.StringIO()
        figure.savefig(raw, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    out.write(_inline(raw.getvalue(), f"{title} of {name}: {y} over {x}"))


def _inline(svg: str, label: str) -> str:
    """Matplotlib's SVG as part of a page: no prolog, no addresses, as wide as its column, in the page's colours."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'\s+xmlns(:\w+)?="[^"]*"', "", svg)
    svg = re.sub(r"<(metadata|style)\b.*?</\1>", "", svg, flags=re.DOTALL)  # its <style> would reach the whole page
    svg = re.sub(r' id="\w+_\d+"', "", svg)
    svg = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font: \1px var(--sans)", svg)
    svg = re.sub(
        r"<svg [^>]*(viewBox=\"[^\"]*\")[^>]*>", rf'<svg role="img" aria-label="{escape(label)}" \1>', svg, count=1
    )
    for placeholder, variable in _VARIABLES.items():
        svg = svg.replace(placeholder, f"var({variable})")
    return svg
