"""How fast and how lean batches come: chiasm's loader beside MONAI's PersistentDataset and PIL, in one run on one core.

    python benchmarks/loader.py [--images 100000] [--seconds 3] [--rounds 5]

Synthetic cohorts (224 px; a report, a record and seven labels a study) are written in a temporary folder, 5 GB for
100,000 images, and deleted at the end. Every measurement is a process of its own, pinned to one core, with one thread.
Batches hold 32 random studies; files are in the page cache, as in any epoch but the first. chiasm and MONAI read what an
import or a first epoch prepared once; PIL decodes each time. Images per second suffer from whatever else the machine
does, images per CPU second hardly. Prints a table in Markdown and
writes benchmarks/results/loader.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

SIZE, BATCH, SMALL = 224, 32, 1000
LABELS = ("atelectasis", "pneumonia", "edema", "mass", "nodule", "hernia", "fibrosis")
RESULT = Path(__file__).parent / "results" / "loader.json"
Batches = tuple[Callable[[np.ndarray], object], int]


def make_studies(count: int) -> Iterator[object]:
    from chiasm.geometry import Geometry
    from chiasm.study import Finding, Image, Record, Report, State, Study

    random = np.random.default_rng(0)
    noise = random.integers(0, 256, SIZE * SIZE * 4, dtype=np.uint8)
    geometry = Geometry.identity((SIZE, SIZE))
    for i in range(count):
        start = random.integers(0, noise.size - SIZE * SIZE)
        pixels = noise[start : start + SIZE * SIZE].reshape(SIZE, SIZE)
        yield Study(
            f"s{i:06}",
            f"p{i // 2:06}",
            (Image(f"i{i:06}", pixels, geometry),),
            Report({"findings": "The heart is not enlarged. There is no effusion and no focal opacity."}),
            Record({"age_years": float(i % 90), "sex": "fm"[i % 2]}),
            tuple(Finding(name, State.PRESENT if (i + k) % 5 else State.ABSENT) for k, name in enumerate(LABELS)),
        )


def make_jpegs(folder: Path, side: int = 512) -> None:
    """SMALL gray JPEGs of smooth structures and some noise, about as large as radiographs of that size."""
    from PIL import Image

    random = np.random.default_rng(0)
    for i in range(SMALL):
        coarse = Image.fromarray(random.integers(30, 220, (12, 12), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC), np.float64)
        noisy = np.clip(smooth + random.normal(0, 4, smooth.shape), 0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(folder / f"{i}.jpg", quality=90)


# --- one measurement, in a process of its own --------------------------------------------------------------------------


def anonymous_mb() -> float:
    """Memory of this process that no file backs, from /proc/self/smaps_rollup."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Anonymous:")) / 1024


def chiasm_batches(folder: Path) -> Batches:
    from chiasm.cohort.store import Cohort
    from chiasm.encoding.batches import Loader, fit_plan
    from chiasm.recipe import read_recipe
    from chiasm.report.tokenizer import Tokenizer

    cohort = Cohort.open(folder)
    plan, _, _ = fit_plan(read_recipe("report-fusion"), [cohort], [cohort.rows("train")])
    loader = Loader([cohort], plan, Tokenizer.train(cohort.texts(["findings"])[:SMALL]))
    return loader.batch, len(loader)


def monai_batches(folder: Path) -> Batches:
    import torch
    from monai.data import PersistentDataset
    from monai.transforms import Compose, EnsureChannelFirst, EnsureType, LoadImage, Resize

    small = EnsureType(dtype=torch.uint8, track_meta=False)
    steps = Compose([LoadImage(image_only=True), EnsureChannelFirst(), Resize((SIZE, SIZE)), small])
    paths = sorted((folder / "jpeg").glob("*.jpg"))
    data = PersistentDataset([str(path) for path in paths], steps, cache_dir=folder / "monai")
    for i in range(len(data)):
        _ = data[i]  # fills the cache: not measured
    return lambda rows: torch.stack([data[int(i)] for i in rows]), len(data)


def pil_batches(folder: Path) -> Batches:
    import torch
    from PIL import Image

    paths = sorted((folder / "jpeg").glob("*.jpg"))

    def read(path: Path) -> np.ndarray:
        with Image.open(path) as image:
            return np.asarray(image.convert("L").resize((SIZE, SIZE), Image.Resampling.BILINEAR))

    return lambda rows: torch.from_numpy(np.stack([read(paths[i]) for i in rows])), len(paths)


WAYS = {"chiasm": chiasm_batches, "monai": monai_batches, "pil": pil_batches}


def measure(way: str, folder: Path, seconds: float) -> dict[str, float]:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    import torch

    torch.set_num_threads(1)
    batch, count = WAYS[way](folder)
    random = np.random.default_rng(0)
    order = np.arange(count)
    for i in range(0, count - BATCH + 1, BATCH):  # files into the page cache
        batch(order[i : i + BATCH])
    start, cpu, images, peak = time.perf_counter(), time.process_time(), 0, anonymous_mb()
    while time.perf_counter() - start < seconds:
        for _ in range(20):
            batch(random.integers(0, count, BATCH))
        images += 20 * BATCH
    wall, cpu = time.perf_counter() - start, time.process_time() - cpu
    peak = max(peak, anonymous_mb())
    return {"images_per_s": images / wall, "images_per_cpu_s": images / cpu, "anonymous_mb": peak}


def in_a_process(way: str, folder: Path, seconds: float) -> dict[str, float]:
    command = [sys.executable, __file__, "--measure", way, "--folder", str(folder), "--seconds", str(seconds)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    output = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment).stdout
    result: dict[str, float] = json.loads(output.splitlines()[-1])
    return result


# --- the whole ---------------------------------------------------------------------------------------------------------


def run(images: int, seconds: float, rounds: int) -> dict[str, object]:
    from chiasm.cohort.store import write_cohort

    home = Path(tempfile.mkdtemp(prefix="chiasm-loader-"))
    try:
        (home / "jpeg").mkdir()
        make_jpegs(home / "jpeg")
        sizes = [n for n in (SMALL, 10_000, 100_000) if n <= images]
        for n in sizes:
            write_cohort(make_studies(n), home / str(n), source="synthetic", options={})
        found: dict[str, list[dict[str, float]]] = {}
        for _ in range(rounds):  # in turn, so that what else the machine does falls on all alike
            for n in sizes:
                found.setdefault(f"chiasm, {n:,}", []).append(in_a_process("chiasm", home / str(n), seconds))
            for way in ("monai", "pil"):
                found.setdefault(way, []).append(in_a_process(way, home, seconds))
        rows = {
            name: {key: float(np.median([r[key] for r in each])) for key in each[0]} for name, each in found.items()
        }
        stored = {f"{n:,}": (home / str(n) / "pixels_2d.npy").stat().st_size / 2**20 for n in sizes}
    finally:
        shutil.rmtree(home)
    import monai
    import torch

    versions = {"python": platform.python_version(), "torch": torch.__version__, "monai": monai.__version__}
    return {
        "rows": rows,
        "pixels_mb": stored,
        "rounds": rounds,
        "seconds": seconds,
        "batch": BATCH,
        "versions": versions,
    }


def table(result: dict[str, object]) -> str:
    rows: dict[str, dict[str, float]] = result["rows"]  # type: ignore[assignment]
    names = {
        "monai": f"MONAI PersistentDataset, {SMALL:,} images, cache filled",
        "pil": f"PIL, {SMALL:,} JPEGs of 512 px: decode, resize",
    }
    best = [row for name, row in rows.items() if name.startswith("chiasm")][-1]
    lines = [
        "| batches of 32 at 224 px, one core | images/s | images per CPU second | anonymous memory, MB | images per CPU second, chiasm's largest over this |",
        "|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        ratio = "" if name.startswith("chiasm") else f"{best['images_per_cpu_s'] / row['images_per_cpu_s']:.1f}x"
        cells = names.get(name, f"{name} images"), f"{row['images_per_s']:,.0f}", f"{row['images_per_cpu_s']:,.0f}"
        lines.append(f"| {' | '.join(cells)} | {row['anonymous_mb']:,.0f} | {ratio} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--measure", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure, options.folder, options.seconds)))
        return
    result = run(options.images, options.seconds, options.rounds)
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    print(table(result))


if __name__ == "__main__":
    main()
