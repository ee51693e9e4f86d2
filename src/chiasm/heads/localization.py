"""Localization: a map per finding from image tokens alone, supervised by regions where readers drew them, else by labels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from scipy.special import expit
from torch import Tensor, nn

from chiasm.domains.chest.frame import organ_field
from chiasm.encoding.fit import Learned, Off
from chiasm.errors import RecipeError
from chiasm.geometry import Geometry
from chiasm.heads.head import READER, Answered, Asked, Head, Loss, Picture, Reading, Said, Section, Seen, Shape
from chiasm.heads.maps import Located, Maps, channel_names, detect, likely_places, locate, within_range
from chiasm.heads.spec import Case, Pool, Question, mean_known
from chiasm.metrics.bootstrap import Estimate, macro
from chiasm.metrics.localization import map_to_boxes, summarize
from chiasm.metrics.name import MetricName, metric_name, split_prefix
from chiasm.models.attention import places_of, take
from chiasm.objectives.grounding import map_loss
from chiasm.objectives.outcome import target_loss
from chiasm.recipe import Options
from chiasm.study import Kind, Region
from chiasm.tensors import Batch, Outputs

LOCATED_LABELS, SHOWN = 4, 6
"""Labels that the page shows, and images of each."""
RANKED_BY = "box_iou"
OUTSIDE = -8.0
"""Least logarithm of where a finding may lie: what is outside can hardly win, and keeps a finite gradient."""
COLUMNS = ("box_iou", "miou", "dice", "pointing", "cnr", "t_iou_0.1", "t_iou_0.3", "t_iou_0.5")


class LocalizationOptions(Options):
    """A map per label on a grid of the given stride; supervised where regions exist, by the findings elsewhere.

    `weight` is that of the regions; at 0 none is looked at, neither in training nor to choose where an answer's map is cut: that is at
    `threshold`, a share of the range of each map (chosen once on boxes of a phantom, for all findings and cohorts). `label_weight` is
    that of the findings, which teach the maps of images in which no reader drew or ruled out the label: what a map says must answer
    the label by itself. `within: organ` lets a finding of lung, pleura or heart lie in its organ of a frontal chest radiograph only.
    """

    stride: Literal[8, 16] = 16
    weight: Annotated[float, Field(ge=0)] = 1.0
    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.35
    label_weight: Annotated[float, Field(ge=0)] = 1.0
    within: Literal["image", "organ"] = "image"


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
        if options.within == "organ" and len(learned.plan.image_shape or ()) != 2:
            raise RecipeError(
                "organs of the chest have a place on radiographs only",
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
        if self.given.within == "organ":
            assert self.plan.grid is not None
            grid = self.plan.grid[0], self.plan.grid[1]
            field = np.stack([organ_field(label, grid) for _, label in self.plan.localized])
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
        heights: dict[tuple[int, int], list[NDArray[np.float32]]] = {}
        for one in asked:
            if one.kept is None:
                continue
            own = [channels.index(channel) for channel in one.head.plan.localized]
            place_of = dict(zip(one.indices.tolist(), one.places.tolist(), strict=True))
            for grid, (index, image_row) in zip(one.kept.values, one.kept.index.tolist(), strict=True):
                whole = np.full((len(channels), *grid.shape[1:]), np.nan, np.float32)
                whole[own] = _places(one, grid)
                sums.setdefault((place_of[index], image_row), []).append(whole)
                height = np.full(len(channels), np.nan, np.float32)
                height[own] = _peaks(one, grid)
                heights.setdefault((place_of[index], image_row), []).append(height)
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
            np.stack([mean_known(np.stack(heights[key]), axis=0) for key in keys]),
            None if taught else np.array([[one.map_threshold(*channel) for channel in channels] for one in asked]),
        )

    @classmethod
    def write(cls, evidence: Maps, stem: Path, pool: Pool) -> None:
        """STEM.npz: values, study, image_row, image_ids, geometry (JSON texts), thresholds, peaks; fitted, where it is there."""
        ids = [
            str(pool.cohorts[pool.cohort[s]].images["image_id"].iloc[i])
            for s, i in zip(evidence.study, evidence.image_row, strict=True)
        ]
        texts = {"image_ids": ids, "geometry": [geometry.to_json() for geometry in evidence.geometry]}
        names = (
            "values",
            "study",
            "image_row",
            "thresholds",
            "peaks",
            *(() if evidence.fitted is None else ("fitted",)),
        )
        arrays = {name: getattr(evidence, name) for name in names}
        super().write(arrays | {name: np.array(values, np.str_) for name, values in texts.items()}, stem, pool)

    @classmethod
    def load(cls, stem: Path) -> Maps | None:
        arrays = super().load(stem)
        if arrays is None:
            return None
        geometry = [Geometry.from_json(text) for text in arrays["geometry"].tolist()]
        return Maps(
            arrays["values"],
            arrays["study"],
            arrays["image_row"],
            geometry,
            arrays["thresholds"],
            arrays["peaks"],
            arrays.get("fitted"),
        )

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
            peaks=evidence.peaks[kept],
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
        by_metric = {m: own | ({"macro": macro(own)} if len(own) > 1 else {}) for m, own in by_metric.items()}
        scores: dict[MetricName, Estimate] = {}
        for metric, estimates in (by_metric | detect(evidence, case)).items():
            for label, estimate in estimates.items():
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
        """For the labels with most truth regions images from the worst to the best by IoU of the best box."""
        maps, names = evidence[""], channel_names(case.question)
        located = self._locate(maps, case)
        by_channel = [[pair for pair in located if pair.channel == channel] for channel in range(len(names))]
        chosen = sorted((pairs for pairs in by_channel if pairs), key=len, reverse=True)[:LOCATED_LABELS]
        pictures = [
            _picture(maps, case, pair, names[pair.channel], which)
            for pairs in chosen
            for which, pair in spaced(sorted(pairs, key=lambda pair: pair.scores[RANKED_BY]), SHOWN)
        ]
        return Section(
            title="Localization",
            arm="image only",
            target="localization",
            columns=COLUMNS,
            pictures=pictures,
            chosen="For the labels with most regions, images at even ranks by IoU of the best box, the worst first.",
        )

    # --- predictions ---------------------------------------------------------------------------------------------------

    @classmethod
    def answer(cls, asked: Sequence[Asked], index: int, place: int, present: set[tuple[str, str]]) -> Answered:
        """Maps of the study's images, and boxes of the findings that are present without the report."""
        found: dict[int, dict[tuple[str, str], list[tuple[NDArray[np.float32], float]]]] = {}
        for one in asked:
            if one.kept is None:
                continue
            for at in np.flatnonzero(one.kept.index[:, 0] == index):
                row, logits = int(one.kept.index[at, 1]), one.kept.values[at]
                own = zip(one.head.plan.localized, _places(one, logits), _peaks(one, logits), strict=True)
                for channel, grid, peak in own:
                    found.setdefault(row, {}).setdefault(channel, []).append((grid, float(peak)))
        taught = _given(asked[0]).weight > 0
        maps, regions = {}, []
        for row, grids in found.items():
            image_id, geometry = asked[0].image(index, row)
            for channel, each in grids.items():
                grid, peak = np.mean([g for g, _ in each], axis=0), float(np.mean([p for _, p in each]))
                if not taught:
                    grid = within_range(grid[None, None])[0, 0]
                maps[image_id, "/".join(channel)] = grid * np.float32(peak)
                if channel in present:
                    threshold = float(np.mean([_threshold(one, channel) for one in asked]))
                    regions += _regions(channel, image_id, grid, geometry, threshold, peak)
        return Answered(regions=sorted(regions, key=lambda r: -(r.score or 0.0)), maps=maps)


def _places(one: Asked, logits: NDArray[np.floating]) -> NDArray[np.float32]:
    """[C, *grid] logits as a fold model's maps: probabilities where regions taught, else likely places."""
    return np.asarray(expit(logits.astype(np.float32))) if _given(one).weight > 0 else likely_places(logits)


def _peaks(one: Asked, logits: NDArray[np.floating]) -> NDArray[np.float32]:
    """[C] probability that a value of 1 of each map stands for."""
    if _given(one).weight > 0:
        return np.ones(len(logits), np.float32)
    return np.asarray(expit(logits.astype(np.float32).reshape(len(logits), -1).max(axis=1)))


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


def spaced(ranked: Sequence[Any], number: int) -> list[tuple[str, Any]]:
    """At most `number` of them at even ranks, from the first, the worst, to the last, the best.

    >>> spaced("abcdefghi", 3), spaced("a", 3)
    ([('worst', 'a'), ('rank 5 of 9', 'e'), ('best', 'i')], [('worst', 'a')])
    """
    last = len(ranked) - 1
    ranks = dict.fromkeys(np.linspace(0, last, min(number, len(ranked))).round().astype(int).tolist())
    names = {0: "worst", last or -1: "best"}
    return [(names.get(rank, f"rank {rank + 1} of {len(ranked)}"), ranked[rank]) for rank in ranks]


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
