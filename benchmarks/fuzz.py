"""How damaged input is answered: mutations of small good files of every kind, each through the reader that meets it.

    python benchmarks/fuzz.py [--count 5000] [--seed 0] [--only dicom,nifti]

An answer is right when the file is read, or refused by an error of chiasm's own, within five seconds and two gigabytes. Everything else is
told with the seed that makes it again: "bug" (another exception, also of a note that cannot be written) and "hang".
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import random
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

SECONDS, GIGABYTES = 5.0, 2
ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests" / "support")]

SMALL = (
    *("inputs.image.encoder=small-cnn", "inputs.image.size=64", "fusion.dim=32", "fusion.heads=2", "train.epochs=1"),
    *("heads.localization.stride=8", "heads.description.max_tokens=24", "heads.description.layers=1"),
    *("heads.description.beams=2", "inputs.text.max_tokens=48", "train.batch_size=16"),
)
"""Of the run whose files are damaged."""
Reader = Callable[[Path], object]


class Late(BaseException):
    """Five seconds are over; no reader may catch it."""


def mutate(data: bytes, rng: random.Random) -> bytes:
    """Cut, flip, overwrite with telling values, repeat, insert, or announce another size."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        if not out:
            break
        at, kind = rng.randrange(len(out)), rng.randrange(8)
        if kind == 0:
            del out[at:]
        elif kind == 1:
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 2:
            out[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, 0x5C, 0x22, 0x0A))
        elif kind == 3:
            piece = out[at : at + rng.choice((1, 4, 16, 200))]
            out[at:at] = piece * rng.choice((1, 2, 30))
        elif kind == 4:
            del out[at : at + rng.choice((1, 2, 4, 64))]
        elif kind == 5:
            number = rng.choice((0, 1, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 10**9))
            out[at : at + 4] = struct.pack(rng.choice("<>") + "I", number)
        elif kind == 6:
            out[at:at] = rng.choice(
                (b"999999999", b"-1", b"1e308", b"NaN", b"\x00\x00", b"\xff\xfe", b"{", b"[" * 2000, b"*a", b"&a ")
            )
        else:
            other = rng.randrange(len(out))
            out[at : at + 8], out[other : other + 8] = out[other : other + 8], out[at : at + 8]
    return bytes(out)


def inside(data: bytes, suffix: str, rng: random.Random) -> bytes:
    """A mutation; half the time of what a packed file holds, packed again as it was, so that it reaches the reader behind."""
    if suffix.endswith("gz") and rng.random() < 0.5:
        return gzip.compress(mutate(gzip.decompress(data), rng), 1)
    if suffix in ("zip", "xlsx") and rng.random() < 0.5:
        packed = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(packed, "w") as new:
            chosen = rng.choice(old.namelist())
            for name in old.namelist():
                new.writestr(name, mutate(old.read(name), rng) if name == chosen else old.read(name))
        return packed.getvalue()
    if suffix == "png" and rng.random() < 0.5:
        return _png(data, rng)
    return mutate(data, rng)


def _png(data: bytes, rng: random.Random) -> bytes:
    """A PNG with a mutated chunk, whose checksum is right again."""
    out, at = data[:8], 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        body = mutate(body, rng) if body and rng.random() < 0.5 else body
        out += len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")
        at += 12 + length
    return out


def make_seeds(folder: Path) -> dict[str, tuple[list[Path], Reader]]:
    """Kind -> good files of it, and what reads a file of that kind."""
    import nibabel
    import pandas as pd
    from dicom_files import dicom_object, encapsulated, lossless_jpeg, save, slices
    from PIL import Image as Pillow
    from pydicom.uid import DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEG2000Lossless, RLELossless

    from chiasm.cohort.imports import import_cohort
    from chiasm.cohort.preprocessing import Preprocessing
    from chiasm.cohort.store import Cohort
    from chiasm.errors import ChiasmError
    from chiasm.formats.dicom import read_dicom
    from chiasm.formats.nifti import read_nifti
    from chiasm.formats.pixels import read_picture
    from chiasm.recipe import read_recipe
    from chiasm.report.files import read_report_files
    from chiasm.sources import bids, dicom, table
    from chiasm.sources.table.read import read as read_table_studies
    from chiasm.sources.table.schema import read_map

    del table
    rng = np.random.default_rng(0)
    gray = rng.integers(0, 255, (40, 36)).astype(np.uint8)
    prepare = Preprocessing(size=16, volume_size=(8, 8, 8)).prepare
    seeds: dict[str, tuple[list[Path], Reader]] = {}

    files = []
    for name, change in {"plain": None, "rle": RLELossless, "j2k": JPEG2000Lossless}.items():
        data = dicom_object(
            gray.astype(np.uint16) * 16, BitsStored=12, WindowCenter=100, WindowWidth=50, PatientAge="040Y"
        )
        if change:
            data.compress(change)
        files.append(save(data, folder / f"{name}.dcm"))
    for name, syntax in {"implicit": ImplicitVRLittleEndian, "deflated": DeflatedExplicitVRLittleEndian}.items():
        data = dicom_object(gray, RescaleSlope=2, RescaleIntercept=-5, PixelPaddingValue=0)
        data.file_meta.TransferSyntaxUID = syntax
        files.append(save(data, folder / f"{name}.dcm"))
    files.append(
        save(encapsulated(dicom_object(gray), lossless_jpeg(gray, 8), "1.2.840.10008.1.2.4.70"), folder / "jpeg.dcm")
    )
    files.append(save(dicom_object(np.stack([gray] * 3), Modality="US", NumberOfFrames=3), folder / "frames.dcm"))
    seeds["dicom"] = files, lambda path: prepare(read_dicom(path))

    affine = np.array([[0, 0, -1, 60], [0, -1, 0, 80], [3, 0, 0, -100], [0, 0, 0, 1.0]])
    objects = slices(rng.integers(0, 999, (4, 6, 5)).astype(np.uint16), affine, RescaleSlope=1, RescaleIntercept=-1024)
    whole = [save(data, folder / "series" / f"{n}.dcm") for n, data in enumerate(objects)]

    def read_folder(path: Path) -> None:
        home = path.parent / "home"
        shutil.rmtree(home, ignore_errors=True)
        shutil.copytree(folder / "series", home)
        shutil.copy(path, home / "1.dcm")
        for item in dicom.read(home):
            for image in getattr(item, "images", ()):
                prepare(image)

    seeds["series"] = [whole[1]], read_folder

    volume = nibabel.Nifti1Image(rng.integers(0, 900, (5, 6, 4)).astype(np.int16), np.diag([2.0, 2, 3, 1]))
    nibabel.save(volume, folder / "a.nii")
    nibabel.save(volume, folder / "b.nii.gz")
    nibabel.save(nibabel.Nifti2Image(rng.random((5, 6, 4)).astype(np.float32), np.eye(4)), folder / "c.nii")
    seeds["nifti"] = [folder / n for n in ("a.nii", "b.nii.gz", "c.nii")], lambda path: prepare(read_nifti(path))

    colour = Pillow.fromarray(rng.integers(0, 255, (40, 36, 3)).astype(np.uint8))
    pictures = {
        "a.png": Pillow.fromarray(gray),
        "b.png": colour.convert("P"),
        "c.jpg": colour,
        "d.tif": Pillow.fromarray(gray),
    }
    pictures |= {
        "e.tif": Pillow.fromarray(gray.astype(np.uint16) * 9),
        "f.bmp": colour,
        "g.png": Pillow.fromarray(gray.astype(np.uint16)),
    }
    for name, picture in pictures.items():
        picture.save(folder / name)
    Pillow.fromarray(gray).save(folder / "h.tif", compression="tiff_lzw")
    names = [*pictures, "h.tif"]
    seeds["pictures"] = [folder / name for name in names], lambda path: prepare(read_picture(path))

    rows = [["patient_id", "age", "sex", "report", "label_mass", "crp"]]
    rows += [[f"p{n}", 40 + n, "FM"[n % 2], f"FINDINGS: Heart {n}.", n % 2, n / 3] for n in range(9)]
    text = "\n".join(",".join(map(str, row)) for row in rows) + "\n"
    (folder / "t.csv").write_text(text)
    (folder / "u.csv.gz").write_bytes(gzip.compress(text.encode()))
    (folder / "w.csv").write_text("sep=;\n" + text.replace(",", ";"))
    frame = pd.DataFrame(rows[1:], columns=rows[0])
    frame.to_excel(folder / "v.xlsx", index=False)
    frame.to_parquet(folder / "x.parquet")
    about = {
        "patient": "patient_id",
        "report": "report",
        "record": ["age", "sex", "crp"],
        "labels": {"columns": ["label_mass"]},
    }

    def read_rows(path: Path) -> None:
        for given in (about, None):
            try:
                list(read_table_studies(path, map=given))
            except ChiasmError:
                if given is None:
                    raise

    seeds["tables"] = [folder / n for n in ("t.csv", "u.csv.gz", "v.xlsx", "w.csv", "x.parquet")], read_rows

    (folder / "m.yaml").write_text(
        "patient: pid\nreport: report\nrecord: {age_years: age, crp: {column: crp, missing: [-9]}}\n"
        "labels: &l [{columns: [label_mass], values: {maybe: uncertain}}]\nimages: {columns: file, window: '40,400'}\n"
        "boxes: [{file: b.csv, image: i, label: mass, columns: [x, y, w, h], frame: [800, 800]}]\n"
    )
    seeds["maps"] = [folder / "m.yaml"], lambda path: read_map(path)
    recipes = sorted((ROOT / "src" / "chiasm" / "recipes").glob("*.yaml"))
    seeds["recipes"] = recipes, lambda path: read_recipe(path)

    (folder / "r.txt").write_text("INDICATION: Cough.\nFINDINGS: No effusion. Heart normal.\nIMPRESSION: Clear.\n")
    (folder / "s.jsonl").write_text("".join(json.dumps({"id": n, "text": "No effusion."}) + "\n" for n in range(4)))
    (folder / "o.xml").write_text('<a><uId id="C1"/><AbstractText Label="FINDINGS">Clear.</AbstractText></a>')
    with zipfile.ZipFile(folder / "z.zip", "w") as archive:
        archive.writestr("a.txt", "Findings: Clear.")
        archive.writestr("b.xml", (folder / "o.xml").read_text())
    seeds["reports"] = (
        [folder / n for n in ("r.txt", "s.jsonl", "o.xml", "z.zip")],
        lambda path: list(read_report_files(path, [])),
    )

    root = folder / "bids"
    (root / "sub-1" / "anat").mkdir(parents=True)
    shutil.copy(folder / "b.nii.gz", root / "sub-1" / "anat" / "sub-1_T1w.nii.gz")
    (root / "sub-1" / "sub-1_sessions.tsv").write_text("session_id\tage\nses-1\t50\n")
    (root / "participants.tsv").write_text("participant_id\tage\tsex\nsub-1\t50\tF\nsub-2\t35-40\tM\n")
    (root / "participants.json").write_text(json.dumps({"age": {"Units": "years"}, "sex": {"Levels": {"F": "female"}}}))
    (root / "T1w.json").write_text(json.dumps({"Modality": "MR", "EchoTime": 0.1}))

    def read_bids(path: Path) -> None:
        home = path.parent / "home"
        shutil.rmtree(home, ignore_errors=True)
        shutil.copytree(root, home)
        target = next(home.rglob(path.name.partition("@")[2]))
        shutil.copy(path, target)
        list(bids.read(home, suffix="T1w"))

    names = ("participants.tsv", "participants.json", "T1w.json", "sub-1_sessions.tsv")
    seeds["bids"] = [next(root.rglob(name)) for name in names], read_bids

    cohort = import_cohort("table", folder / "t.csv", folder / "cohort", size=16, options={"map": about})

    def read_cohort(path: Path) -> None:
        home = path.parent / "home"
        shutil.rmtree(home, ignore_errors=True)
        shutil.copytree(cohort.path, home)
        shutil.copy(path, home / path.name.partition("@")[2])
        opened = Cohort.open(home)
        [opened.study(row) for row in range(len(opened))]

    seeds["cohorts"] = [cohort.path / n for n in ("cohort.json", "studies.parquet", "images.parquet")], read_cohort
    from chiasm.prediction.predictor import load_predictor
    from chiasm.prediction.read import read_study
    from chiasm.training.train import train

    phantom = import_cohort("phantom-chest", None, folder / "phantom", size=64, options={"studies": 60})
    train(read_recipe("report-fusion", list(SMALL)), [phantom.path], folder / "run")
    plan = load_predictor(folder / "run").plan

    def read_run(path: Path) -> None:
        home = path.parent / "home"
        shutil.rmtree(home, ignore_errors=True)
        shutil.copytree(folder / "run", home)
        shutil.copy(path, home / path.name.partition("@")[2])
        load_predictor(home)

    parts = ("run.json", "recipe.yaml", "plan.json", "split.json", "calibration.json", "tokenizer.json", "novelty.json")
    seeds["runs"] = [folder / "run" / n for n in (*parts, "weights.safetensors", "novelty.safetensors")], read_run
    (folder / "record.json").write_text('{"age_years": 63, "sex": "Female", "temperature_c": "37.5"}')
    seeds["records"] = [folder / "record.json"], lambda path: read_study(folder / "a.png", plan, record=path)
    return seeds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    import logging

    logging.disable(logging.CRITICAL)
    from chiasm.errors import ChiasmError

    def late(*_: object) -> None:
        raise Late

    signal.signal(signal.SIGALRM, late)
    tally: Counter[tuple[str, str]] = Counter()
    slowest = 0.0
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        seeds = make_seeds(folder)
        kinds = [kind for kind in seeds if not given.only or kind in given.only.split(",")]
        for kind in kinds:  # a good file that is refused would make every mutation of it look right
            files, reader = seeds[kind]
            for file in files:
                shutil.copy(file, folder / f"m@{file.name}")
                reader(folder / f"m@{file.name}")
        most = GIGABYTES * 2**30 + int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (most, resource.RLIM_INFINITY))
        for n in range(given.count):
            kind = kinds[n % len(kinds)]
            files, reader = seeds[kind]
            seed = given.seed + n
            rng = random.Random(seed)
            file = rng.choice(files)
            path = folder / f"m@{file.name}"
            path.write_bytes(inside(file.read_bytes(), file.name.rpartition(".")[2], rng))
            start = time.perf_counter()
            signal.setitimer(signal.ITIMER_REAL, SECONDS)
            try:
                reader(path)
                answer = "read"
            except ChiasmError as error:
                str(error).encode()
                answer = "refused"
            except Late:
                answer = "hang"
            except BaseException as error:  # noqa: BLE001
                answer = "bug"
                last = traceback.extract_tb(error.__traceback__)[-1]
                print(
                    f"bug  seed {seed} {kind} {file.name}: {type(error).__name__} {str(error)[:90]} at {last.filename[-40:]}:{last.lineno}"
                )
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
            slowest = max(slowest, time.perf_counter() - start)
            if answer == "hang":
                print(f"hang seed {seed} {kind} {file.name}")
            tally[kind, answer] += 1
            path.unlink()
    print(f"seeds {given.seed} to {given.seed + given.count - 1}, slowest {slowest:.2f} s")
    for kind in kinds:
        print(
            f"{kind:10}",
            "  ".join(f"{answer} {tally[kind, answer]:4}" for answer in ("read", "refused", "bug", "hang")),
        )
    total = {
        answer: sum(n for (_, a), n in tally.items() if a == answer) for answer in ("read", "refused", "bug", "hang")
    }
    print(f"{'all':10}", "  ".join(f"{answer} {n:4}" for answer, n in total.items()))
    sys.exit(bool(total["bug"] or total["hang"]))


if __name__ == "__main__":
    main()
