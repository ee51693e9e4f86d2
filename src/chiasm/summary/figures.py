"""The figures of the page: curves as SVG that follow the page's light and dark, overlays as pictures.

Curves are drawn in placeholder colours which are then exchanged for the CSS variables of the page, and their text stays
text, so one drawing serves screen, print and dark mode.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from html import escape
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from chiasm.metrics.calibration import Reliability
from chiasm.metrics.classification import Curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from PIL.ImageDraw import ImageDraw

INK, SOFT, LINE, ACCENT, QUIET = "#010101", "#020202", "#030303", "#040404", "#050505"
_VARIABLES = {INK: "--ink", SOFT: "--soft", LINE: "--line", ACCENT: "--accent", QUIET: "--quiet"}
TRUTH_RGB, PREDICTED_RGB = (64, 224, 255), (255, 176, 32)  # told apart with any colour vision, and by solid and dashed


@dataclass(frozen=True)
class Decision:
    """Net benefit over the probability from which one acts (Vickers & Elkin 2006).

    Attributes:
        model: of the arm that leads; everybody: [points] of acting on everybody, on the same grid.
        others: name of an arm -> its curve.
    """

    model: Curve
    everybody: NDArray[np.floating]
    others: Mapping[str, Curve]


@dataclass(frozen=True)
class Confusion:
    """How often a true level (row) was answered by which most probable one (column): counts [Q, Q]."""

    name: str
    levels: Sequence[str]
    counts: NDArray[np.integer]

    @property
    def shares(self) -> NDArray[np.float64]:
        """[Q, Q] of each row."""
        return np.asarray(self.counts / np.maximum(self.counts.sum(axis=1, keepdims=True), 1))


@dataclass(frozen=True)
class Curves:
    """The figures of one label.

    Attributes:
        name: "target/label". prevalence: share of positives, the level line of precision.
        before, after: reliability before and after temperature; before is None for an arm without logits.
        spread: [k] counts of probabilities in k even bins of 0..1.
        decision: None for a finding: nobody acts on its chance alone.
        others: name of an arm -> its ROC.
    """

    name: str
    roc: Curve
    pr: Curve
    prevalence: float
    after: Reliability
    before: Reliability | None
    spread: NDArray[np.integer]
    decision: Decision | None = None
    others: Mapping[str, Curve] = field(default_factory=dict)


def roc_svg(curves: Curves) -> str:
    """True-positive rate over false-positive rate with its 95% band, and that of other arms on the same patients."""
    with _axes(curves.name, "ROC", "1 − specificity", "sensitivity") as (axes, out):
        axes.plot([0, 1], [0, 1], color=LINE, lw=1)
        for name, curve in curves.others.items():
            axes.plot(curve.x, curve.y, color=QUIET, lw=1.4, ls="--", label=name)
        _banded(axes, curves.roc, label="model")
        if curves.others:
            axes.legend(loc="lower right", frameon=False, fontsize=8, labelcolor=SOFT, handlelength=1.4)
    return out.getvalue()


def pr_svg(curves: Curves) -> str:
    """Precision over recall with its 95% band; the level line is the share of positives."""
    with _axes(curves.name, "Precision – recall", "recall", "precision") as (axes, out):
        axes.axhline(curves.prevalence, color=LINE, lw=1)
        _banded(axes, curves.pr)
    return out.getvalue()


def reliability_svg(curves: Curves) -> str:
    """Observed share over predicted probability, before and after temperature, with 95% whiskers.

    The strip at the foot shows where the probabilities lie.
    """
    with _axes(curves.name, "Reliability", "predicted probability", "observed share") as (axes, out):
        axes.plot([0, 1], [0, 1], color=LINE, lw=1)
        bins = len(curves.spread)
        height = 0.14 * curves.spread / max(int(curves.spread.max()), 1)
        axes.bar(np.arange(bins) / bins, height, width=1 / bins, align="edge", color=LINE, lw=0)
        if curves.before is not None:
            before = curves.before
            axes.plot(
                before.probability, before.observed, color=QUIET, lw=1, marker="o", ms=4, mfc="none", label="before"
            )
        after = curves.after
        axes.vlines(after.probability, after.low, after.high, color=ACCENT, lw=1, alpha=0.5)
        axes.plot(after.probability, after.observed, color=ACCENT, lw=1.4, marker="o", ms=4, label="after temperature")
        axes.legend(loc="upper left", frameon=False, fontsize=8, labelcolor=SOFT, handlelength=1.4)
    return out.getvalue()


def decision_svg(curves: Curves) -> str:
    """Net benefit over the probability from which one acts, with its 95% band, beside acting on everybody and on nobody."""
    decision = curves.decision
    assert decision is not None
    with _axes(curves.name, "Decision", "acting from a probability of", "net benefit") as (axes, out):
        top = 1.15 * max(curves.prevalence, float(np.nanmax(decision.model.high)), 0.01)
        x = decision.model.x
        shown = decision.everybody > -0.25 * top
        axes.set(xlim=(0, float(x[-1])), ylim=(-0.25 * top, top), aspect="auto", xticks=[0, 0.2, 0.4, 0.6, 0.8])
        axes.set_yticks([0, round(curves.prevalence, 2)])
        axes.set_box_aspect(1)
        axes.axhline(0, color=LINE, lw=1)
        axes.plot(x[shown], decision.everybody[shown], color=SOFT, lw=1, label="everybody")
        for name, curve in decision.others.items():
            axes.plot(curve.x, np.maximum(curve.y, -0.25 * top), color=QUIET, lw=1.4, ls="--", label=name)
        axes.fill_between(x, decision.model.low, decision.model.high, color=ACCENT, alpha=0.16, lw=0)
        axes.plot(x, decision.model.y, color=ACCENT, lw=1.8, label="model")
        axes.legend(loc="upper right", frameon=False, fontsize=8, labelcolor=SOFT, handlelength=1.4)
    return out.getvalue()


def _banded(axes: Axes, curve: Curve, label: str | None = None) -> None:
    axes.fill_between(curve.x, curve.low, curve.high, color=ACCENT, alpha=0.16, lw=0)
    axes.plot(curve.x, curve.y, color=ACCENT, lw=1.8, label=label)


def thumbnail(pixels: NDArray[np.uint8]) -> bytes:
    """[H, W] gray as a JPEG."""
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(np.asarray(pixels)).save(out, format="JPEG", quality=88)
    return out.getvalue()


def overlay(
    pixels: NDArray[np.generic],
    boxes_truth: NDArray[np.floating],
    boxes_pred: NDArray[np.floating],
    heat: NDArray[np.floating] | None = None,
    *,
    names: Sequence[str] = (),
    mask_truth: NDArray[np.bool_] | None = None,
    max_side: int | None = None,
    min_side: int = 0,
    format: str = "PNG",
    warning: str = "",
) -> bytes:
    """A picture of one image with its truth (solid, blue), map (warm) and prediction (dashed, amber).

    Args:
        pixels: [H, W] gray in the original frame, any real dtype; drawn from its minimum to its maximum unless uint8.
        boxes_truth, boxes_pred: [n, 4] x_min, y_min, x_max, y_max in the same pixels.
        heat: [H, W] probabilities 0..1 on the same pixels, or None.
        names: of the predicted boxes, written beside them.
        mask_truth: [H, W]; its outline is drawn where a reader drew a mask instead of a box.
        max_side: shrink so that the longer side has at most this many pixels; None keeps the original size.
        min_side: enlarge so that it has at least this many: lines and names are drawn after that.
        format: "PNG", or "JPEG" for a page that must stay small.
        warning: written in the upper left corner.

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
    scale = max(min(1.0, (max_side or max(picture.size)) / max(picture.size)), min_side / max(picture.size))
    if scale != 1:
        size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    draw, width = ImageDraw.Draw(picture), max(1, round(max(picture.size) / 200))
    for box in np.asarray(boxes_truth, float).reshape(-1, 4) * scale:
        _rectangle(draw, box, TRUTH_RGB, width, dashed=False)
    for box in np.asarray(boxes_pred, float).reshape(-1, 4) * scale:
        _rectangle(draw, box, PREDICTED_RGB, width, dashed=True)
    taken: list[tuple[float, float, float, float]] = []
    if warning:
        _label(draw, np.zeros(4), warning, picture.size, taken)
    for name, box in zip(names, np.asarray(boxes_pred, float).reshape(-1, 4) * scale, strict=bool(names)):
        _label(draw, box, name, picture.size, taken)
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


def _label(
    draw: ImageDraw,
    box: NDArray[np.float64],
    name: str,
    size: tuple[int, int],
    taken: list[tuple[float, float, float, float]],
) -> None:
    """A name over its box, on black; inside the box where there is no room above it, moved left at the right border.

    Args:
        taken: where names stand already; this one goes below them, and is added.
    """
    from PIL import ImageFont

    font = ImageFont.load_default(max(9, round(max(size) / 45)))
    x0, y0, x1, y1 = draw.textbbox((0, 0), name, font=font)
    x = max(0.0, min(box[0], size[0] - (x1 - x0)))
    y = box[1] - (y1 - y0) - 2 if box[1] > (y1 - y0) + 2 else box[1] + 2
    for left, top, right, bottom in sorted(taken, key=lambda place: place[1]):
        if x < right and left < x + x1 - x0 and y < bottom and top < y + y1 - y0:
            y = bottom + 1
    taken.append((x, y, x + x1 - x0, y + y1 - y0))
    draw.rectangle((x, y, x + x1 - x0, y + y1 - y0), fill=(0, 0, 0))
    draw.text((x - x0, y - y0), name, fill=PREDICTED_RGB, font=font)


def _rectangle(
    draw: ImageDraw, box: NDArray[np.float64], colour: tuple[int, int, int], width: int, *, dashed: bool
) -> None:
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


@contextmanager
def _axes(name: str, title: str, x: str, y: str) -> Iterator[tuple[Axes, io.StringIO]]:
    """A small square plot on 0..1; its SVG stands in the buffer once the block ends."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    out = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name + title, "font.size": 9}):
        figure = Figure(figsize=(3.1, 3.1))  # fixed margins: a layout engine would draw everything twice
        FigureCanvasSVG(figure)
        axes = figure.add_axes((0.17, 0.145, 0.77, 0.77))
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
    svg = re.sub(r' id="[\w.]+_\d+"', "", svg)
    svg = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font: \1px var(--sans)", svg)
    svg = re.sub(
        r"<svg [^>]*(viewBox=\"[^\"]*\")[^>]*>", rf'<svg role="img" aria-label="{escape(label)}" \1>', svg, count=1
    )
    for placeholder, variable in _VARIABLES.items():
        svg = svg.replace(placeholder, f"var({variable})")
    return svg
