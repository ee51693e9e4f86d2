"""Localization: a map per finding from image tokens alone, supervised by regions where readers drew them, else by labels."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from scipy.special import expit
from torch import Tensor, nn

from chiasm.cohort.store import Cohort
from chiasm.domains.chest.frame import IN_LUNGS, lung_field
from chiasm.encoding.fit import Learned, Off
from chiasm.errors import RecipeError
from chiasm.geometry import Geometry
from chiasm.heads.head import READER, Answered, Asked, Head, Loss, Picture, Reading, Said, Section, Seen, Shape
from chiasm.heads.spec import Case, Floats, Pool, Question, mean_known
from chiasm.metrics.bootstrap import Estimate, macro
from chiasm.metrics.localization import map_to_boxes, score_map, summarize
from chiasm.metrics.name import MetricName, metric_name, split_prefix
from chiasm.models.attention import places_of, take
from chiasm.objectives.grounding import map_loss
from chiasm.objectives.outcome import target_loss
from chiasm.recipe import Options
from chiasm.study import Kind, Region
from chiasm.tensors import Batch, Outputs

LOCATED_LABELS = 4
RANKED_BY = "box_iou"
OUTSIDE = -8.0
"""Least logarithm of where a finding may lie: what is outside can hardly win, and keeps a finite gradient."""
COLUMNS = ("box_iou", "miou", "dice", "pointing", "cnr", "t_iou_0.1", "t_iou_0.3", "t_iou_0.5")


class LocalizationOptions(Options):
    """A map per label on a grid of the given stride; supervised where regions exist, by the findings elsewhere.

    `weight` is that of the regions; at 0 none is looked at, neither in training nor to choose where a map is cut: that is then at
    `threshold`, a share of the range of each map (fixed beforehand, by no box of any cohort; it is not tuned yet). `label_weight` is
    that of the findings, which teach the maps of images in which no reader drew or ruled out the label: what a map says must answer
    the label by itself. `within: lungs` lets a finding of lung or pleura lie in the lungs of a frontal chest radiograph only.
    """

    stride: Literal[8, 16] = 16
    weight: Annotated[float, Field(ge=0)] = 1.0
    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.5
    label_weight: Annotated[float, Field(ge=0)] = 1.0
    within: Literal["image", "lungs"] = "image"


class LocalizationLayers(nn.Module):
    """One logit per label and grid cell, from image tokens alone.

    Args:
        channels: (target, position of the label in the target) of each map, None of a label that is no target; sizes: target ->
            its number of labels. field: [C, *grid] in (0, 1], where each may lie; None: anywhere.
    """

    field: Tensor

    def __init__(
        self,
        dim: int,
        channels: Sequence[tuple[str, int | None]],
        sizes: Mapping[str, int],
        field: NDArray[np.floating] | None = None,
    ) -> None:
        super().__init__()
        self.channels, self.sizes = tuple(channels), dict(sizes)
        known = (
            torch.zeros(len(self.channels), 1) if field is None else torch.from_numpy(field).float().flatten(1).log()
        )
        self.register_buffer("field", known, persistent=False)
        last = nn.Linear(dim, len(self.channels))
        nn.init.constant_(last.bias, -2.0)  # most of an image is not lesion
        self.net = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, dim), nn.GELU(), last)

    def forward(self, seen: Seen) -> Said:
        """-> map_logits [B, N, C, *grid], all cells of absent images answered like a cell of zeros; label_logits [B, C] of them."""
        tokens = seen.encoded["image"]
        cells, batch = math.prod(tokens.grid), len(tokens.mask)
        places = places_of(tokens.mask)
        rows = take(tokens.values, places)  # [n, D]: only real tokens are computed
        shown, blank = self.net(torch.cat([rows, torch.zeros_like(tokens.values[0, :1])])).split([len(places), 1])
        channels = shown.shape[1]
        logits: Tensor = blank.repeat(tokens.mask.numel(), 1).index_copy(0, places, shown)
        maps = logits.view(batch, -1, cells, channels).transpose(2, 3) + self.field.clamp(min=OUTSIDE)
        maps = maps.reshape(batch, -1, channels, *tokens.grid)
        return {"map_logits": maps, "label_logits": pool_maps(maps, tokens.units())}

    def evidence(self, said: Said, seen: Seen) -> dict[str, Tensor]:
        """What the maps say of each target: [B, L], zero for a label without a map and for a study without an image."""
        pooled = said["label_logits"]  # [B, C]
        found = {target: pooled.new_zeros(len(pooled), size) for target, size in self.sizes.items()}
        for channel, (target, position) in enumerate(self.channels):
            if position is None:
                continue
            place = torch.tensor([position], device=pooled.device)
            found[target] = found[target].index_add(1, place, pooled[:, channel : channel + 1])
        return found


def pool_maps(map_logits: Tensor, image_mask: Tensor, sharpness: float = 5.0) -> Tensor:
    """The evidence of the best places: log-mean-exp over the cells of all images (Pinheiro & Collobert 2015).

    [B, N, C, *grid] and [B, N] -> [B, C]; zero where a study has no image.
    """
    flat = map_logits.flatten(3).transpose(1, 2)  # [B, C, N, cells]
    flat = flat.masked_fill(~image_mask[:, None, :, None], -torch.inf).flatten(2)
    real = image_mask.sum(dim=1) * map_logits[0, 0, 0].numel()
    any_real = real > 0
    flat = flat.masked_fill(~any_real[:, None, None], 0.0)
    pooled = (torch.logsumexp(sharpness * flat, dim=2) - real.clamp(min=1).to(flat.dtype).log()[:, None]) / sharpness
    return pooled * any_real[:, None]


@dataclass(frozen=True)
class ImageMaps:
    """Maps of the images that were asked.

    Attributes:
        values: [m, C, *grid] logits; index: [m, 2] study in the loader and row in `images`.
    """

    values: NDArray[np.float16]
    index: NDArray[np.int64]


@dataclass(frozen=True)
class Maps:
    """Localization maps of the pool's images, from the image alone.

    Attributes:
        values: [m, C, h, w] (or [m, C, d, h, w]) probabilities at grid resolution, mean over fold models.
        study: [m] place in the pool; image_row: [m] row in the `images` of that study's cohort.
        geometry: [m] from the original frame to the stored pixels the grid lies on.
        thresholds: [fold models, C] where a map becomes boxes, fitted on validation.
    """

    values: NDArray[np.float16]
    study: NDArray[np.int64]
    image_row: NDArray[np.int64]
    geometry: Sequence[Geometry]
    thresholds: Floats


@dataclass(frozen=True)
class Located:
    """One label with truth regions on one image, and how well its map finds them.

    Attributes:
        channel: of the maps; place: of the image in `Maps`; study: in the pool.
    """

    channel: int
    place: int
    study: int
    scores: Mapping[str, float]


class LocalizationHead(Head):
    """A map of each finding; its pooled evidence counts in the finding's logit."""

    name = "localization"
    options = LocalizationOptions
    inputs = ("image",)
    teachers = ("regions",)
    given: LocalizationOptions

    @classmethod
    def fit(cls, options: LocalizationOptions, learned: Learned) -> Any:
        """No state: the plan names the channels.

        Raises:
            Off: there are no images, no findings, or images are read by the territories of an atlas.
        """
        if learned.recipe.inputs.image is None or not learned.plan.localized:
            lacking = "images" if learned.plan.localized else "findings"
            raise Off(f"Localization is switched off: there are no {lacking} to localize.")
        if learned.plan.atlas:
            raise Off("Localization is switched off: images are read by territory, and maps need a grid.")
        if options.within == "lungs" and len(learned.plan.image_shape or ()) != 2:
            raise RecipeError(
                "lungs have a place on radiographs only",
                expected="2-D images",
                got="volumes",
                where="heads.localization.within",
                remedy="--set heads.localization.within=image",
            )

    def build(self, shape: Shape) -> nn.Module:
        targets = self.plan.targets
        channels = [
            (target, targets[target].index(label) if label in targets.get(target, ()) else None)
            for target, label in self.plan.localized
        ]
        field = None
        if self.given.within == "lungs":
            assert self.plan.grid is not None
            lungs = lung_field((self.plan.grid[0], self.plan.grid[1]))
            field = np.stack([lungs if label in IN_LUNGS else np.ones_like(lungs) for _, label in self.plan.localized])
        sizes = {t: len(targets[t]) for t, at in channels if at is not None}
        return LocalizationLayers(shape.dim, channels, sizes, field)

    def losses(self, outputs: Outputs, batch: Batch) -> dict[str, Loss]:
        """`localization_loss`, over the maps that a reader drew in or ruled out; `map_label_loss`, over the labels of the others.

        Without the latter a label may be answered by the fused vector alone, and the maps by nothing.
        """
        said = outputs.heads[self.name]
        assert batch.lesion_mask is not None and batch.lesion_label_mask is not None
        loss = map_loss(said["map_logits"], batch.lesion_mask, batch.lesion_label_mask)
        drawn = batch.lesion_label_mask.any(dim=1) & (self.given.weight > 0)  # [B, C]
        labels, mask = torch.zeros_like(said["label_logits"]), torch.zeros_like(drawn)
        for channel, (target, label) in enumerate(self.plan.localized):
            if label in self.plan.targets.get(target, ()):
                k = self.plan.targets[target].index(label)
                labels[:, channel], mask[:, channel] = batch.labels[target][:, k], batch.label_mask[target][:, k]
        mask = mask & ~drawn & outputs.present["image"][:, None]
        taught = target_loss(said["label_logits"], labels, mask, Kind.BINARY)
        return {
            "localization_loss": Loss(self.given.weight * loss, batch.lesion_label_mask.sum()),
            "map_label_loss": Loss(self.given.label_weight * taught, mask.sum(), judges=False),
        }

    # --- evidence ------------------------------------------------------------------------------------------------------

    def read(self, said: Said, reading: Reading) -> ImageMaps:
        mask = reading.encoded["image"].units()
        study, slot = torch.nonzero(mask.cpu(), as_tuple=True)
        rows = [reading.image_rows(int(reading.indices[s]))[int(n)] for s, n in zip(study, slot, strict=True)]
        index = np.stack([reading.indices[study.numpy()], np.array(rows, np.int64)], axis=1)
        return ImageMaps(said["map_logits"][mask].cpu().half().numpy(), index)

    def join(self, parts: Sequence[ImageMaps]) -> ImageMaps | None:
        if not parts:
            return None
        return ImageMaps(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("values", "index")))

    @classmethod
    def pool(cls, pool: Pool, asked: Sequence[Asked]) -> Maps | None:
        """The maps of all fold models, averaged where several answer an image."""
        channels = list(dict.fromkeys(channel for one in asked for channel in one.head.plan.localized))
        sums: dict[tuple[int, int], list[NDArray[np.float32]]] = {}
        for one in asked:
            if one.kept is None:
                continue
            own = [channels.index(channel) for channel in one.head.plan.localized]
            place_of = dict(zip(one.indices.tolist(), one.places.tolist(), strict=True))
            for grid, (index, image_row) in zip(one.kept.values, one.kept.index.tolist(), strict=True):
                whole = np.full((len(channels), *grid.shape[1:]), np.nan, np.float32)
                whole[own] = expit(grid.astype(np.float32))
                sums.setdefault((place_of[index], image_row), []).append(whole)
        if not sums:
            return None
        keys = sorted(sums)
        study, image_row = np.array(keys, np.int64).T
        values = np.stack([mean_known(np.stack(sums[key]), axis=0) for key in keys])
        taught = _given(asked[0]).weight > 0
        return Maps(
            (values if taught else within_range(values)).astype(np.float16),
            study,
            image_row,
            [pool.cohorts[pool.cohort[s]].geometry(int(i)) for s, i in keys],
            np.array([[_threshold(one, channel) for channel in channels] for one in asked]),
        )

    @classmethod
    def write(cls, evidence: Maps, stem: Path, pool: Pool) -> None:
        """STEM.npz: values, study, image_row, image_ids, geometry (JSON texts), thresholds."""
        ids = [
            str(pool.cohorts[pool.cohort[s]].images["image_id"].iloc[i])
            for s, i in zip(evidence.study, evidence.image_row, strict=True)
        ]
        texts = {"image_ids": ids, "geometry": [geometry.to_json() for geometry in evidence.geometry]}
        arrays = {name: getattr(evidence, name) for name in ("values", "study", "image_row", "thresholds")}
        super().write(arrays | {name: np.array(values, np.str_) for name, values in texts.items()}, stem, pool)

    @classmethod
    def load(cls, stem: Path) -> Maps | None:
        arrays = super().load(stem)
        if arrays is None:
            return None
        geometry = [Geometry.from_json(text) for text in arrays["geometry"].tolist()]
        return Maps(arrays["values"], arrays["study"], arrays["image_row"], geometry, arrays["thresholds"])

    @classmethod
    def take(cls, evidence: Maps, rows: NDArray[np.int64]) -> Maps | None:
        place = {int(row): new for new, row in enumerate(rows)}
        kept = np.array([i for i, study in enumerate(evidence.study) if int(study) in place], np.int64)
        if not len(kept):
            return None
        return replace(
            evidence,
            values=evidence.values[kept],
            study=np.array([place[int(study)] for study in evidence.study[kept]], np.int64),
            image_row=evidence.image_row[kept],
            geometry=[evidence.geometry[i] for i in kept],
        )

    # --- figures and page ----------------------------------------------------------------------------------------------

    @classmethod
    def protocol(cls, question: Question) -> str:
        return "image only"

    def score(self, evidence: Maps, case: Case, control: str = "") -> dict[MetricName, Estimate]:
        located = self._locate(evidence, case)
        by_metric: dict[str, dict[str, Estimate]] = {}
        for channel, label in enumerate(channel_names(case.question)):
            pairs = [pair for pair in located if pair.channel == channel]
            if pairs:
                rows = case.resamples.at([pair.study for pair in pairs])
                for metric, estimate in summarize([pair.scores for pair in pairs], rows).items():
                    by_metric.setdefault(metric, {})[label] = estimate
        scores: dict[MetricName, Estimate] = {}
        for metric, estimates in by_metric.items():
            named = estimates | ({"macro": macro(estimates)} if len(estimates) > 1 else {})
            for label, estimate in named.items():
                scores[metric_name("localization", label, metric, **split_prefix(control))] = estimate
        return scores

    def _locate(self, maps: Maps, case: Case) -> list[Located]:
        """`locate`, once for figures and page."""
        known = self.__dict__.setdefault("_located", {})
        if id(maps) not in known:
            known[id(maps)] = (maps, locate(maps, case.question, case.pool))
        found: list[Located] = known[id(maps)][1]
        return found

    def section(self, evidence: Mapping[str, Maps], case: Case, scores: Mapping[MetricName, Estimate]) -> Section:
        """For the labels with most truth regions the best, the median and the worst image by IoU of the best box."""
        maps, names = evidence[""], channel_names(case.question)
        located = self._locate(maps, case)
        by_channel = [[pair for pair in located if pair.channel == channel] for channel in range(len(names))]
        chosen = sorted((pairs for pairs in by_channel if pairs), key=len, reverse=True)[:LOCATED_LABELS]
        pictures = [
            _picture(maps, case, pair, names[pair.channel], which)
            for pairs in chosen
            for which, pair in at_ranks(sorted(pairs, key=lambda pair: -pair.scores[RANKED_BY]))
        ]
        return Section(
            title="Localization",
            arm="image only",
            target="localization",
            columns=COLUMNS,
            pictures=pictures,
            chosen="Best, median and worst image by IoU of the best box, for the labels with most regions.",
        )

    # --- predictions ---------------------------------------------------------------------------------------------------

    @classmethod
    def answer(cls, asked: Sequence[Asked], index: int, place: int, present: set[tuple[str, str]]) -> Answered:
        """Maps of the study's images, and boxes of the findings that are present without the report."""
        found: dict[int, dict[tuple[str, str], list[NDArray[np.float32]]]] = {}
        for one in asked:
            if one.kept is None:
                continue
            for at in np.flatnonzero(one.kept.index[:, 0] == index):
                for channel, grid in zip(one.head.plan.localized, one.kept.values[at], strict=True):
                    row = int(one.kept.index[at, 1])
                    found.setdefault(row, {}).setdefault(channel, []).append(expit(grid.astype(np.float32)))
        maps, regions = {}, []
        for row, grids in found.items():
            image_id, geometry = asked[0].image(index, row)
            for channel, each in grids.items():
                grid = np.mean(each, axis=0)
                maps[image_id, "/".join(channel)] = grid
                if channel in present:
                    threshold = float(np.mean([_threshold(one, channel) for one in asked]))
                    taught = _given(asked[0]).weight > 0
                    shown, peak = (grid, 1.0) if taught else (within_range(grid[None, None])[0, 0], float(grid.max()))
                    regions += _regions(channel, image_id, shown, geometry, threshold, peak)
        return Answered(regions=sorted(regions, key=lambda r: -(r.score or 0.0)), maps=maps)


def within_range(values: NDArray[np.floating]) -> NDArray[np.floating]:
    """[m, C, *grid] maps, each from 0 at its least value to 1 at its highest; an even one is 0.

    The level of a map that only labels taught means nothing: it says where rather, not whether.
    """
    axes = tuple(range(2, values.ndim))
    least = values.min(axis=axes, keepdims=True)
    span = values.max(axis=axes, keepdims=True) - least
    return np.asarray(np.divide(values - least, span, out=np.zeros_like(values), where=span > 0))


def _threshold(one: Asked, channel: tuple[str, str]) -> float:
    """Where a fold model's map becomes boxes: by validation, or, where no region may be looked at, at the recipe's value."""
    given = _given(one)
    return one.map_threshold(*channel) if given.weight > 0 else given.threshold


def _given(one: Asked) -> LocalizationOptions:
    return cast(LocalizationOptions, one.head.given)


def _regions(
    channel: tuple[str, str],
    image_id: str,
    grid: NDArray[np.floating],
    geometry: Geometry,
    threshold: float,
    peak: float,
) -> list[Region]:
    """Boxes of a map; `peak` is what its highest value stands for."""
    found = zip(*map_to_boxes(grid, threshold, geometry), strict=True)
    boxes = [((float(x0), float(y0), float(x1), float(y1)), float(score) * peak) for (x0, y0, x1, y1), score in found]
    target, label = channel
    return [Region(label, image_id, box, target=target, reader=READER, score=score) for box, score in boxes]


def locate(maps: Maps, question: Question, pool: Pool, progress: Callable[[int], None] | None = None) -> list[Located]:
    """Every (image, label) pair in which a reader drew a region, scored on the original pixels."""
    drawn = [_drawn(cohort) for cohort in pool.cohorts]
    thresholds = maps.thresholds[pool.fold_model].mean(axis=1)  # [n, C]
    found = []
    for place, (study, image_row) in enumerate(zip(maps.study, maps.image_row, strict=True)):
        number = pool.cohort[study]
        for channel, (target, label) in enumerate(question.localized):
            if (int(image_row), target, label) in drawn[number]:
                cohort, geometry = pool.cohorts[number], maps.geometry[place]
                truth = cohort.mask(int(image_row), target, label)
                if truth is not None and truth.any():
                    values = maps.values[place, channel].astype(np.float32)
                    threshold = float(thresholds[study, channel])
                    boxes, scores = map_to_boxes(values, threshold, geometry)
                    drawn_boxes = cohort.boxes(int(image_row), target, label)
                    original = geometry.map_to_original(values)
                    pair = score_map(original, threshold, boxes, scores, truth, drawn_boxes)
                    found.append(Located(channel, place, int(study), pair))
        if progress is not None:
            progress(1)
    return found


def _drawn(cohort: Cohort) -> set[tuple[int, str, str]]:
    """(row in images, target, label) of every region."""
    row = {image: i for i, image in enumerate(cohort.images["image_id"])}
    regions = cohort.regions
    return {
        (row[image], target, label)
        for image, target, label in zip(regions["image_id"], regions["target"], regions["label"], strict=True)
    }


def channel_names(question: Question) -> list[str]:
    """The label's part of a metric's name for each channel: with its target where two targets share a label."""
    labels = [label for _, label in question.localized]
    return [label if labels.count(label) == 1 else f"{target}_{label}" for target, label in question.localized]


def at_ranks(ranked: Sequence[Any]) -> list[tuple[str, Any]]:
    """The first, the middle and the last as best, median and worst; fewer where there are fewer."""
    places = dict.fromkeys([0, len(ranked) // 2, len(ranked) - 1]) if ranked else {}
    return [(which, ranked[place]) for which, place in zip(("best", "median", "worst"), places, strict=False)]


def _picture(maps: Maps, case: Case, pair: Located, label: str, which: str) -> Picture:
    """Truth, map and predicted boxes on the original frame; of a volume, the slice with most truth."""
    pool, (target, name) = case.pool, case.question.localized[pair.channel]
    cohort, image_row = pool.cohorts[pool.cohort[pair.study]], int(maps.image_row[pair.place])
    geometry = maps.geometry[pair.place]
    values = maps.values[pair.place, pair.channel].astype(np.float32)
    threshold = float(maps.thresholds[pool.fold_model[pair.study], pair.channel].mean())
    predicted, _ = map_to_boxes(values, threshold, geometry)
    drawn = [r for r in cohort.regions_of(image_row) if (r.target, r.label) == (target, name)]
    masks = [r.mask for r in drawn if r.mask is not None]
    mask = np.any(masks, axis=0) if masks else None
    heat = geometry.map_to_original(values)
    pixels = geometry.map_to_original(cohort.pixels(image_row).astype(np.float32)).round().astype(np.uint8)
    if pixels.ndim == 3:
        z = int(np.asarray(heat if mask is None else mask, np.float64).sum(axis=(1, 2)).argmax())
        pixels, heat, mask = pixels[z], heat[z], None if mask is None else mask[z]
    return Picture(
        group=label,
        which=which,
        caption=f"IoU {pair.scores[RANKED_BY]:.2f} · study {pool.column('study_id')[pair.study]}",
        pixels=pixels,
        truth=np.array([r.box for r in drawn if r.mask is None and r.box is not None], np.float64).reshape(-1, 4),
        predicted=predicted,
        heat=heat,
        mask=mask,
    )
