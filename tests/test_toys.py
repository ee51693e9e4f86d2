"""Parts of one's own: a head, a fusion family, encoders, a source and a control, each one object, walk the whole road.

Nothing of the package is changed for them; what they are is all in this file.
"""

import json
import math
import shutil
import subprocess
import sys
from dataclasses import replace
from typing import Annotated

import numpy as np
import pytest
import torch
from pydantic import Field
from runs import UNSEALED
from torch import nn

import chiasm
from chiasm.errors import InputError, RecipeError
from chiasm.evaluation.controls import Control
from chiasm.evaluation.spec import Arm
from chiasm.evaluation.verify import verify
from chiasm.heads.head import Head, Loss, Section
from chiasm.metrics.name import metric_name
from chiasm.models.image.encoder import Backbone, build_backbone
from chiasm.models.text.encoder import TextEncoder
from chiasm.prediction.folder import predict_inputs
from chiasm.recipe import Options, parse_recipe, read_recipe
from chiasm.registry import REGISTRIES
from chiasm.run.fold_model import load_fold_models, over_own_cohorts
from chiasm.run.model import build_model
from chiasm.sources.phantom_chest import read as read_phantom
from chiasm.sources.registry import Source
from chiasm.tensors import Fused, Tokens
from chiasm.training.train import TrainingModule, train

ABOUT = "Phantoms whose reports tell how long they are."


class LengthOptions(Options):
    """`unit`: words that count as one."""

    unit: Annotated[int, Field(ge=1)] = 10
    weight: float = 1.0


class LengthLayers(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, 1)

    def forward(self, seen):
        """-> length [B]: how long a report would be, in standard deviations."""
        hidden = seen.fuse({m: t.hidden() if m == "text" else t for m, t in seen.tokens.items()})
        return {"length": self.linear(hidden.vector)[:, 0]}


class LengthHead(Head):
    """How long the report is, from image and record: the report is a teacher, never an input."""

    name = "length"
    options = LengthOptions

    @classmethod
    def fit(cls, options, learned):
        words = np.concatenate(
            [count_words(c, options.unit)[r] for c, r in zip(learned.cohorts, learned.rows, strict=True)]
        )
        return {"mean": float(words.mean()), "std": float(words.std())}

    def teach(self, cohorts):
        words = np.concatenate([count_words(cohort, self.given.unit) for cohort in cohorts])
        standard = (words - self.state["mean"]) / self.state["std"]
        return {"length": standard.astype(np.float32), "length_mask": words > 0}

    def build(self, shape):
        return LengthLayers(shape.dim)

    def losses(self, outputs, batch):
        taught = batch.teachers[self.name]
        each = (outputs.heads[self.name]["length"] - taught["length"]) ** 2
        mask = taught["length_mask"]
        mean = torch.where(mask, each, 0.0).sum() / mask.sum().clamp(min=1)
        return {"length_loss": Loss(self.given.weight * mean, mask.sum())}

    def score(self, evidence, case, control=""):
        truth = self.truth(case)
        known = truth["length_mask"]
        error = np.abs(evidence["length"].mean(axis=1) - truth["length"])[known]
        mean = case.resamples.at(known).mean(error, "mean absolute error in standard deviations")
        return {metric_name("length", None, "mae"): mean}

    def section(self, evidence, case, scores):
        return Section("Report length", "image and record", "length", said=["How long a report would be."])


def count_words(cohort, unit):
    return np.array([len(text.split()) // unit for text in cohort.texts(["findings", "impression"])])


class Loudest(nn.Module):
    """{modality: Tokens} -> Fused: the largest feature of any modality."""

    needs = ("image",)

    def __init__(self, modalities, dim, heads, dropout):
        super().__init__()
        self.project = nn.ModuleDict({m: nn.Linear(dim, dim) for m in modalities})

    def forward(self, tokens):
        vectors = {}
        for m, t in tokens.items():
            x = self.project[m](t.values).masked_fill(~t.mask[..., None], 0.0)
            vectors[m] = x.sum(dim=1) / t.mask.sum(dim=1, keepdim=True).clamp(min=1)
        return Fused(torch.stack(list(vectors.values())).amax(dim=0), vectors, dict(tokens))


class Tiles(Backbone):
    """Tiles of so many pixels, each as a few numbers that are not learned here."""

    pretrained, takes, ndims = True, "SIDE", (2,)

    @classmethod
    def build(cls, taken, ndim, channels):
        return cls(int(taken))

    def __init__(self, side):
        super().__init__()
        self.channels, self.strides = (8,), (side,)
        self.cut = nn.Conv2d(1, 8, side, stride=side)
        nn.init.orthogonal_(self.cut.weight, gain=1 / 64, generator=torch.Generator().manual_seed(5))
        nn.init.zeros_(self.cut.bias)

    def forward(self, pixels):
        return [self.cut(pixels[:, :1])]


class Bag(TextEncoder):
    """Words without their order."""

    def __init__(self, vocabulary_size, dim, dropout):
        super().__init__()
        self.words = nn.Embedding(vocabulary_size, dim)

    def forward(self, token_ids, token_mask, states=None):
        return Tokens(self.words(token_ids), token_mask)


class Presence(nn.Module):
    """What was measured, whatever was found."""

    def __init__(self, numeric, categories, dim):
        super().__init__()
        self.column = nn.Parameter(torch.randn(numeric + len(categories), dim))

    def forward(self, values, observed, codes):
        mask = torch.cat([observed, codes > 0], dim=1)
        return Tokens(self.column.expand(len(mask), -1, -1), mask)


class CoinControl(Control):
    """A number made of the study's place."""

    title, protocol, marker = "a coin", "a number drawn for each study", "square"

    def compute(self, question, taught, pool):
        coin = np.random.default_rng(0).random(len(pool))
        return Arm({t: np.repeat(coin[:, None], len(labels), axis=1) for t, labels in question.targets.items()})


def read_some(studies: int = 40, seed: int = 0, size: int = 64):
    yield from read_phantom(studies=studies, seed=seed, size=size)


PARTS = {
    "head": ("length", LengthHead),
    "fusion": ("loudest", Loudest),
    "image-encoder": ("tiles", Tiles),
    "text-encoder": ("bag", Bag),
    "record-encoder": ("presence", Presence),
    "source": ("toy-phantoms", Source("toy-phantoms", ABOUT, read_some)),
    "control": ("coin", CoinControl()),
}


@pytest.fixture(scope="module")
def registered():
    for kind, (name, part) in PARTS.items():
        chiasm.register(kind, name, part)
    yield
    for kind, (name, _) in PARTS.items():
        REGISTRIES[kind].remove(name)


RECIPE = {
    "name": "toys",
    "inputs": {"image": {"encoder": "small-cnn", "size": 64}, "text": {"max_tokens": 24}, "record": {}},
    "fusion": {"name": "loudest", "dim": 32, "heads": 2},
    "targets": {"outcome": {}},
    "heads": {"length": {"unit": 5}},
    "train": {"epochs": 3, "batch_size": 16},
    "evaluate": {"resamples": 100},
}


@pytest.fixture(scope="module")
def made(registered, tmp_path_factory):
    """A cohort from the source and a run with head and fusion, trained in two parts."""
    home = tmp_path_factory.mktemp("toys")
    cohort = chiasm.import_cohort("toy-phantoms", None, home / "cohort", size=64, options={"studies": 60})
    recipe = parse_recipe(RECIPE, "here")
    train(recipe, [cohort.path], home / "run")
    return cohort, recipe, home / "run"


def test_a_head_learns_what_its_teacher_says(made):
    _, _, run = made
    header, *rows = (run / "history.csv").read_text().splitlines()
    course = [dict(zip(header.split(","), row.split(","), strict=True)) for row in rows]
    assert math.isfinite(float(course[-1]["validation_length_loss"]))
    judged = sum(float(course[-1][f"validation_{name}"]) for name in ("outcome_loss", "length_loss"))
    assert float(course[-1]["validation_loss"]) == pytest.approx(judged, abs=1e-5)


def test_its_state_and_options_stand_in_the_run(made):
    cohort, _, run = made
    plan = json.loads((run / "plan.json").read_text())
    words = count_words(cohort, 5)[cohort.rows("train")]
    assert plan["heads"]["length"] == {"mean": pytest.approx(words.mean()), "std": pytest.approx(words.std())}
    assert "unit: 5" in (run / "recipe.yaml").read_text()


def test_a_training_that_was_cut_off_resumes_to_the_same_weights(made, tmp_path):
    from safetensors.torch import load_file

    cohort, recipe, run = made
    shutil.copytree(run, tmp_path / "run", ignore=UNSEALED)
    for name in ("weights.safetensors", "calibration.json"):
        (tmp_path / "run" / name).unlink()
    info = json.loads((tmp_path / "run" / "run.json").read_text())
    (tmp_path / "run" / "run.json").write_text(json.dumps({**info, "status": "training"}))
    train(recipe, [cohort.path], tmp_path / "run", resume=True)
    a, b = (load_file(folder / "weights.safetensors") for folder in (run, tmp_path / "run"))
    assert any(name.startswith("heads.length.") for name in a)
    assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def evaluated(made):
    return chiasm.evaluate(made[2])


def test_its_evidence_is_scored_verified_and_shown(made, evaluated):
    cohort, _, run = made
    figure = evaluated.metrics["length/all/mae"]
    with np.load(run / "evaluation" / "predictions" / "heads" / "length.npz") as stored:
        said = stored["length"][:, 0]
    words = count_words(cohort, 5)[cohort.rows("test")]
    state = json.loads((run / "plan.json").read_text())["heads"]["length"]
    truth = (words - state["mean"]) / state["std"]
    assert figure.value == pytest.approx(np.abs(said - truth)[words > 0].mean(), rel=1e-5)
    assert figure.low is not None and figure.low < figure.value
    assert verify(run) == []
    page = evaluated.page.read_text()
    assert "Report length" in page and "How long a report would be." in page


def test_a_changed_answer_is_noticed(made, evaluated, tmp_path):
    shutil.copytree(made[2], tmp_path / "run", ignore=UNSEALED)
    file = tmp_path / "run" / "evaluation" / "predictions" / "heads" / "length.npz"
    np.savez_compressed(file, length=np.load(file)["length"] + 1)
    found = "\n".join(verify(tmp_path / "run"))
    assert "heads/length.npz" in found and "length/all/mae" in found


def test_a_control_is_an_arm_with_its_protocol(evaluated):
    name = next(n for n in evaluated.metrics if n.startswith("coin:outcome/") and n.endswith("/auroc"))
    assert evaluated.metrics[name].protocol.startswith("control: a number drawn for each study")


def test_a_prediction_tells_what_the_head_says_and_the_report_moves_it_nowhere(made, tmp_path):
    from chiasm.demo import write_study

    study = next(read_some(1, seed=9))
    folder = write_study(study, tmp_path / "studies")
    (with_report,) = predict_inputs(made[2], [folder], tmp_path / "a")
    (folder / "report.txt").unlink()
    (without,) = predict_inputs(made[2], [folder], tmp_path / "b")
    assert with_report.heads["length"]["length"] == pytest.approx(without.heads["length"]["length"], abs=1e-6)
    written = json.loads(next((tmp_path / "a").glob("*.json")).read_text())
    assert written["heads"]["length"] == with_report.heads["length"]


def test_a_run_may_learn_nothing_but_its_heads(registered, made, tmp_path):
    recipe = parse_recipe({**RECIPE, "targets": {}, "train": {"epochs": 1, "batch_size": 16}}, "here")
    train(recipe, [made[0].path], tmp_path / "run")
    evaluation = chiasm.evaluate(tmp_path / "run")
    assert list(evaluation.metrics) == ["length/all/mae"]
    assert verify(tmp_path / "run") == []


def test_without_the_package_that_added_a_head_the_run_says_so(made, evaluated):
    code = f"from chiasm.evaluation.verify import verify; verify({str(made[2])!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "length" in done.stderr and ("not known here" in done.stderr or "no head length" in done.stderr)


ENCODERS = {
    "image": {"encoder": "tiles:16", "size": 64},
    "text": {"encoder": "bag", "max_tokens": 24},
    "record": {"encoder": "presence"},
}


@pytest.fixture(scope="module")
def encoded(made, tmp_path_factory):
    """A run whose three encoders are toys."""
    run = tmp_path_factory.mktemp("encoders") / "run"
    train(parse_recipe({**RECIPE, "inputs": ENCODERS}, "here"), [made[0].path], run)
    return run


def test_encoders_of_each_modality_train_evaluate_and_predict(made, encoded, tmp_path):
    (fold_model,) = load_fold_models(encoded)
    model = fold_model.model
    assert [type(model.encoders[m]) for m in ("text", "record")] == [Bag, Presence]
    assert isinstance(model.image_encoder.backbone, Tiles) and model.image_encoder.grid == (4, 4)
    torch.testing.assert_close(model.image_encoder.backbone.cut.weight, Tiles(16).cut.weight)  # frozen, as pretrained
    start = Bag(len(fold_model.reader), 32, 0.0)
    assert model.encoders["text"].words.weight.shape == start.words.weight.shape
    assert chiasm.evaluate(encoded).metrics["outcome/event/auroc"].n > 0
    assert verify(encoded) == []
    whole, seen = (
        [p.outcomes for p in predict_inputs(r, [made[0].path], tmp_path / r.name)] for r in (encoded, made[2])
    )
    assert len(whole) == len(made[0]) and whole != seen


def test_what_is_measured_of_an_encoder_reaches_its_recipe(registered):
    for raw, problem in (
        ("tiles", r"must be efficientnet-lite0, .*, voxels or tiles:SIDE. Got 'tiles'"),
        ("small-cnn:3", "must be efficientnet-lite0"),
        ("hf:", "must be efficientnet-lite0"),
        ("tile:3", "must be efficientnet-lite0"),
    ):
        with pytest.raises(RecipeError, match=problem):
            read_recipe("report-fusion", [f"inputs.image.encoder={raw!r}"])
    with pytest.raises(RecipeError, match="must be bilstm, minilm, hf:ID-or-folder or bag"):
        read_recipe("report-fusion", ["inputs.text.encoder=lstm"])
    with pytest.raises(RecipeError, match="must be columns or presence"):
        read_recipe("report-fusion", ["inputs.record.encoder=rows"])
    assert read_recipe("baseline-frozen", ["inputs.image.encoder='tiles:16'"]).inputs.image.pretrained
    with pytest.raises(RecipeError, match=r"pretrained inputs\.image\.encoder"):
        read_recipe("baseline-frozen", ["inputs.image.encoder=small-cnn"])
    with pytest.raises(RecipeError, match=r"pretrained inputs\.text\.encoder"):
        read_recipe("baseline-frozen", ["inputs.text.encoder=bag"])
    with pytest.raises(RecipeError, match="takes 2-D images, the cohort holds volumes"):
        build_backbone("tiles:16", 3)


@pytest.mark.parametrize(("freeze", "share"), [(True, 0.0), (False, 0.1)])
def test_a_pretrained_toy_learns_at_a_tenth_of_the_rate(made, encoded, freeze, share):
    over = over_own_cohorts(encoded, load_fold_models(encoded))[0]
    inputs = {**ENCODERS, "image": {**ENCODERS["image"], "freeze": freeze}}
    recipe = parse_recipe({**RECIPE, "inputs": inputs}, "here")
    model = build_model(recipe, over.plan, len(over.reader), len(over.describer))
    groups = TrainingModule(replace(over, recipe=recipe), model).configure_optimizers()["optimizer"].param_groups
    rates = {id(p): g["initial_lr"] / recipe.train.learning_rate for g in groups for p in g["params"]}
    assert rates.get(id(model.image_encoder.backbone.cut.weight), 0.0) == pytest.approx(share)
    assert rates[id(model.encoders["text"].words.weight)] == 1.0


def test_a_name_is_given_once(registered):
    with pytest.raises(InputError, match="already"):
        chiasm.register("head", "length", Loudest)
    with pytest.raises(InputError, match="no such kind"):
        chiasm.register("model", "x", Loudest)
    with pytest.raises(InputError, match="small letters"):
        chiasm.register("head", "My Head", Loudest)
