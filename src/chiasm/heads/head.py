"""The protocol of a head: one kind of answer, with its supervision, its losses, its evidence and its part of every result.

A head is one class, registered under its name. In the order in which a run calls it:

    options     the keys of `heads.NAME` in a recipe
    disagrees   what in a recipe cannot go with it
    fit         what it learns from the training rows before training (its state, kept in plan.json), or a note why it is off
    teach       what its loss needs of each study: supervision, never an input
    build       its layers; their `forward(seen)` gives named tensors
    losses      what training lowers
    read, join  what is kept of the layers' answers to the studies that were asked
    pool        the answers of several fold models to the tested studies, as evidence
    write, load the evidence on disk
    score       figures, from the evidence and the truth alone
    section     its part of the page, as plain data
    answer      its part of a prediction

What a head does not say, this class says for it: every tensor [B, ...] that its layers give is kept, averaged over fold
models, stored, and told in a prediction.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from chiasm.atomic import write_arrays
from chiasm.cohort.store import Cohort
from chiasm.encoding.fit import Learned
from chiasm.encoding.plan import Plan
from chiasm.errors import RunError
from chiasm.geometry import Geometry
from chiasm.heads.spec import Case, Pool, Question, mean_known
from chiasm.metrics.bootstrap import Estimate
from chiasm.metrics.name import MetricName
from chiasm.recipe import Options, Recipe
from chiasm.registry import HEADS
from chiasm.study import Region
from chiasm.tensors import Batch, Fused, Outputs, Tokens

READER = "chiasm"
"""The reader of what a model answers."""
Said = dict[str, Tensor]
"""What the layers of a head answer: name -> [B, ...]."""
Kept = Any
"""What is kept of the answers of one fold model: by default name -> [n, ...] array."""


class Loss(NamedTuple):
    """One loss of a batch, weighted: a mean of `number` things, 0 where nothing teaches.

    Attributes:
        judges: it tells good epochs from bad ones. watched: it is shown only, or teaches by a gradient of its own.
    """

    value: Tensor
    number: Tensor | int
    judges: bool = True
    watched: bool = False


@dataclass(frozen=True)
class Shape:
    """What layers are built for.

    Attributes:
        dim: width D of tokens and of the fused vector. heads: of attention. dropout: chance. modalities: inputs, in order.
        vocabulary: words of a description.
    """

    dim: int
    heads: int
    dropout: float
    modalities: tuple[str, ...]
    vocabulary: int


@dataclass(frozen=True)
class Seen:
    """What the layers of a head may look at.

    Attributes:
        encoded: modality -> tokens, an image's at full resolution. tokens: as fusion takes them, coarse. fused: of all of them.
        batch: of the same studies: supervision, never an input. fuse: the fusion itself, for a pass that hides something.
        said: name -> the answers of the heads that stand before this one in the recipe.
    """

    encoded: Mapping[str, Tokens]
    tokens: dict[str, Tokens]
    fused: Fused
    batch: Batch
    fuse: Callable[[dict[str, Tokens]], Fused]
    said: Mapping[str, Said] = field(default_factory=dict)


@dataclass(frozen=True)
class Reading:
    """What belongs to the answers of one batch.

    Attributes:
        encoded: what was shown. indices: [B] of the studies in the loader. image_rows: study -> rows of its images in its
            cohort's table. decode: ids of a description -> text.
    """

    encoded: Mapping[str, Tokens]
    indices: NDArray[np.int64]
    image_rows: Callable[[int], Sequence[int]]
    decode: Callable[[Sequence[int]], str]


@dataclass(frozen=True)
class Asked:
    """One fold model's kept answers to tested studies.

    Attributes:
        number: of the fold model. head: with its options and state. indices: of the studies in its loader; places: of the same
            studies in the pool. kept: of `join`. map_threshold: target and label -> where validation cuts its map. image: study
            and row in `images` -> the image's id and geometry.
    """

    number: int
    head: Head
    indices: NDArray[np.int64]
    places: NDArray[np.int64]
    kept: Kept
    map_threshold: Callable[[str, str], float]
    image: Callable[[int, int], tuple[str, Geometry]]


@dataclass(frozen=True)
class Picture:
    """An image with what was found on it, to be drawn on the page.

    Attributes:
        group: heading; which: "best", "worst", its rank; caption: the study and its score.
        pixels: [H, W] gray; truth, predicted: [k, 4] boxes; heat: [H, W] in 0..1 or None; mask: [H, W] bool or None.
    """

    group: str
    which: str
    caption: str
    pixels: NDArray[np.uint8]
    truth: NDArray[np.float64]
    predicted: NDArray[np.float64]
    heat: NDArray[np.floating] | None = None
    mask: NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class Text:
    """Texts of one study side by side; they are untrusted, and escaped on the page.

    Attributes:
        which, caption: as of `Picture`; texts: whose -> text; pixels: the study's image, or None.
    """

    which: str
    caption: str
    texts: Mapping[str, str]
    pixels: NDArray[np.uint8] | None = None


@dataclass(frozen=True)
class Section:
    """A head's part of the page.

    Attributes:
        title: heading; arm: which inputs were seen. target: the figures of which target its tables show.
        columns: metrics of the tables, in order; all if empty. said: sentences. pictures, texts: chosen by rank, `chosen` says how.
    """

    title: str
    arm: str
    target: str
    columns: Sequence[str] = ()
    said: Sequence[str] = ()
    pictures: Sequence[Picture] = ()
    texts: Sequence[Text] = ()
    chosen: str = ""


@dataclass(frozen=True)
class Answered:
    """What a head says of one study in a prediction.

    Attributes:
        values: as JSON, under the head's name. description: a text, or None. regions: boxes and masks.
        maps: (image id, "target/label") -> probabilities on the grid.
    """

    values: Any = None
    description: str | None = None
    regions: Sequence[Region] = ()
    maps: Mapping[tuple[str, str], NDArray[np.float32]] = field(default_factory=dict)


class Head:
    """A head with the options and the state of one run; see the module for the order of its methods."""

    name: ClassVar[str]
    options: ClassVar[type[Options]] = Options
    inputs: ClassVar[tuple[str, ...]] = ()
    """Modalities without which it is off."""
    teachers: ClassVar[tuple[str, ...]] = ()
    """Of "regions" and "text": what a batch brings beside labels, as supervision. Regions come on a grid of `options.stride`
    pixels, a text is made of `options.sections` and ends after `options.max_tokens`."""

    def __init__(self, given: Options, state: Any, plan: Plan | None = None) -> None:
        """`plan`: of the model whose head this is; a head that only scores stored evidence has none."""
        self.given, self.state, self.plan = given, state, cast(Plan, plan)

    @classmethod
    def disagrees(cls, options: Any, recipe: Recipe) -> str | None:
        """The sentence that says what in the recipe cannot go with these options."""
        return None

    @classmethod
    def fit(cls, options: Any, learned: Learned) -> Any:
        """The state, as JSON has it, from the training rows.

        Raises:
            Off: with a sentence that says why the cohorts cannot have this head.
        """
        return None

    @classmethod
    def adapt(cls, options: Any, learned: Learned) -> Any:
        """The options as they are resolved for these cohorts."""
        return options

    def teach(self, cohorts: Sequence[Cohort]) -> dict[str, NDArray[Any]]:
        """Name -> [n, ...] of every study of the cohorts, one after another; a batch has it as `batch.teachers[NAME]`.

        An array "x_mask" says where "x" is known; a study with a True in any mask has something to learn from.
        """
        return {}

    def build(self, shape: Shape) -> nn.Module | None:
        """Layers whose `forward(Seen)` gives a `Said`."""
        return None

    def losses(self, outputs: Outputs, batch: Batch) -> dict[str, Loss]:
        """{name_loss: Loss}: all of them for every batch, with a number of 0 where nothing teaches. Its layers' answers are
        `outputs.heads[NAME]`."""
        return {}

    # --- what is kept of its answers -----------------------------------------------------------------------------------

    def read(self, said: Said, reading: Reading) -> Kept:
        """What is kept of one batch."""
        return {key: values.detach().float().cpu().numpy() for key, values in said.items()}

    def join(self, parts: Sequence[Kept]) -> Kept:
        """What is kept of several batches."""
        return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]} if parts else {}

    # --- evidence ------------------------------------------------------------------------------------------------------

    @classmethod
    def pool(cls, pool: Pool, asked: Sequence[Asked]) -> Any:
        """Evidence of the n tested studies: by default name -> [n, M, ...], NaN where a fold model was not asked."""
        found: dict[str, NDArray[np.floating]] = {}
        for one in asked:
            slot = (pool.fold_model[one.places] == one.number).argmax(axis=1)
            for key, values in one.kept.items():
                shape = (*pool.fold_model.shape, *values.shape[1:])
                found.setdefault(key, np.full(shape, np.nan, np.float32))[one.places, slot] = values
        return found or None

    @classmethod
    def write(cls, evidence: Any, stem: Path, pool: Pool) -> None:
        """Write the evidence beside `stem`: STEM.npz, without pickle."""
        write_arrays(stem.with_name(f"{stem.name}.npz"), evidence)

    @classmethod
    def load(cls, stem: Path) -> Any:
        """The inverse of `write`; None where nothing was written."""
        file = stem.with_name(f"{stem.name}.npz")
        if not file.is_file():
            return None
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as arrays:
            return {key: arrays[key] for key in arrays.files}

    @classmethod
    def take(cls, evidence: Any, rows: NDArray[np.int64]) -> Any:
        """The evidence of some of its studies, in this order."""
        return {key: values[rows] for key, values in evidence.items()}

    def truth(self, case: Case) -> dict[str, NDArray[Any]]:
        """Name -> [n, ...] what `teach` says of the tested studies."""
        parts = [self.teach([cohort]) for cohort in case.pool.cohorts]
        return {key: case.pool.take([part[key] for part in parts]) for key in parts[0]}

    @classmethod
    def protocol(cls, question: Question) -> str:
        """What its answers rest on, one clause for every figure of it."""
        inputs = " + ".join(question.modalities)
        sections = f"; report-conditioned (sections {', '.join(question.text_sections)})"
        return inputs + sections * ("text" in question.modalities)

    def score(self, evidence: Any, case: Case, control: str = "") -> dict[MetricName, Estimate]:
        """Name of a metric -> its estimate. `control`: whose evidence it is; "" of the model."""
        return {}

    def section(self, evidence: Mapping[str, Any], case: Case, scores: Mapping[MetricName, Estimate]) -> Section | None:
        """Its part of the page. `evidence`: of the model ("") and of each control."""
        return None

    # --- predictions ---------------------------------------------------------------------------------------------------

    @classmethod
    def answer(cls, asked: Sequence[Asked], index: int, place: int, present: set[tuple[str, str]]) -> Answered:
        """Its part of the prediction of one study: by default the mean of the fold models, by name.

        Args:
            asked: every fold model's answers. index: of the study in the loader; place: of it in what was asked.
            present: (target, label) of the findings that are present without the report.
        """
        keys = list(asked[0].kept)
        means = {key: mean_known(np.stack([one.kept[key][place] for one in asked]), axis=0) for key in keys}
        return Answered({key: np.asarray(value).tolist() for key, value in means.items()})


def open_heads(question: Question) -> dict[str, Head]:
    """The heads of a run as its evidence records them, to score what is stored.

    Raises:
        RunError: one is not registered here.
    """
    found = {}
    for name, recorded in question.heads.items():
        if name not in HEADS:
            raise missing(name)
        kind = HEADS[name]
        found[name] = kind(kind.options.model_validate(recorded["options"]), recorded["state"])
    return found


def missing(name: str) -> RunError:
    """The error of evidence whose head is not registered here."""
    return RunError(
        f"the head {name} is not known here",
        expected="the package or the call of chiasm.register that added it",
        remedy="register it again before you open the run",
    )
