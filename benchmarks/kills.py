"""What is left when a command is killed: nothing lost, nothing half, and the same result when it is run again.

    python benchmarks/kills.py [--count 50] [--seed 0] [--only import,train,write,evaluate,predict,together,disk]

Each command runs once in peace; then it is killed (SIGKILL) at a moment drawn from its whole length, and run again as its user
would (a training with --resume). The second result must equal the first, and nothing unfinished may lie beside it. `together` starts
two processes on one folder: one wins, the other says so or finds it finished. `disk` runs on a file system of a few megabytes
(Linux, as root): one clear error, and nothing half.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

CHIASM = [sys.executable, "-c", "from chiasm.cli import main; main()"]
SETTINGS = ("inputs.image.encoder=small-cnn", "inputs.image.size=64", "fusion.dim=32", "fusion.heads=2")
SETTINGS += ("train.epochs=2", "train.batch_size=16", "heads.description.layers=1", "heads.description.beams=2")
SMALL = [part for setting in SETTINGS for part in ("--set", setting)]
DISKS = {"import": "300k", "train": "3m", "predict": "500k", "evaluate": "7m"}


def start(arguments: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen([*CHIASM, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def run(arguments: list[str], kill_after: float | None = None) -> tuple[int, str]:
    """The exit code and standard error of a command; -9 where it was killed."""
    with start(arguments) as child:
        try:
            _, said = child.communicate(timeout=kill_after)
        except subprocess.TimeoutExpired:
            child.kill()
            _, said = child.communicate()
        return child.returncode, said


def digest(folder: Path, names: list[str]) -> str:
    """Of what a result says: of JSON without paths and times, else of the bytes."""
    told = hashlib.sha256()
    for file in sorted(file for name in names for file in folder.rglob(name)):
        content = file.read_bytes()
        if file.name == "cohort.json":
            content = json.loads(content)["hash"].encode()
        if file.name == "evaluation.json":
            content = json.dumps(json.loads(content)["metrics"], sort_keys=True).encode()
        told.update(file.name.encode() + content)
    return told.hexdigest()


@dataclass(frozen=True)
class Case:
    """A command on a folder, made anew for each trial, and the files that are its result."""

    arguments: Callable[[Path], list[str]]
    names: list[str]
    again: tuple[str, ...] = ()


def prepare(home: Path) -> dict[str, Case]:
    """A cohort and a run to work on, and the commands."""
    cohort, trained = home / "cohort", home / "trained"
    phantom = ["import", "phantom-chest", "--size", "64", "--option", "studies=150"]
    train = ["train", "report-fusion", str(cohort), *SMALL]
    for arguments in ([*phantom, "--out", str(cohort)], [*train, "--out", str(trained)]):
        code, said = run(arguments)
        assert code == 0, said

    def copy(source: Path, place: Path) -> str:
        if not (place / "out").exists():
            shutil.copytree(source, place / "out")
        return str(place / "out")

    return {
        "import": Case(lambda place: [*phantom, "--out", str(place / "out")], ["cohort.json"]),
        "train": Case(
            lambda place: [*train, "--out", str(place / "out")],
            ["weights.safetensors", "calibration.json"],
            ("--resume",),
        ),
        "write": Case(lambda place: ["write", copy(cohort, place), "--kind", "structured-report"], ["texts.parquet"]),
        "evaluate": Case(lambda place: ["evaluate", copy(trained, place)], ["evaluation.json"]),
        "predict": Case(lambda place: ["predict", str(trained), str(cohort), "--out", str(place / "out")], ["*.json"]),
    }


def kill(case: Case, home: Path, count: int, rng: random.Random) -> Counter[str]:
    """Kill a command `count` times; what became of each."""
    peace = home / "peace"
    peace.mkdir()
    arguments = case.arguments(peace)  # copies what it works on, before the clock runs
    begin = time.perf_counter()
    code, said = run(arguments)
    length = time.perf_counter() - begin
    assert code == 0, said
    wanted, tally = digest(peace, case.names), Counter[str]()
    for _ in range(count):
        place = home / "place"
        place.mkdir()
        arguments, moment = case.arguments(place), rng.uniform(0, length)
        code, _ = run(arguments, moment)
        tally["finished before"] += code == 0
        if code:
            begun = (place / "out" / "run.json").is_file()
            code, said = run([*arguments, *(case.again if begun else ())])
            left = [p.name for p in place.rglob("*") if ".partial" in p.name or p.name.endswith(".lock")]
            same = not code and digest(place, case.names) == wanted
            what = "cannot go on" if code else "other result" if not same else "unfinished left" if left else "equal"
            tally[what] += 1
            if what != "equal":
                print(
                    f"  killed after {moment:.2f} of {length:.2f} s: {what} {left} {said.strip()[-300:] if code else ''}"
                )
        shutil.rmtree(place)
    shutil.rmtree(peace)
    return tally


def together(case: Case, home: Path, count: int) -> Counter[str]:
    """Two processes on one folder."""
    tally: Counter[str] = Counter()
    for _ in range(count):
        place = home / "both"
        place.mkdir()
        both = [start(case.arguments(place)) for _ in range(2)]
        said = [child.communicate()[1] for child in both]
        good = 0 in [child.returncode for child in both] and not any("bug" in text for text in said)
        tally["one or both" if good else "unclear"] += 1
        if not good:
            print(f"  two at once: {said[0].strip()[-200:]} | {said[1].strip()[-200:]}")
        shutil.rmtree(place)
    return tally


def full_disk(cases: dict[str, Case], home: Path) -> Counter[str]:
    """Commands on a file system that is too small for what they write."""
    tally: Counter[str] = Counter()
    place = home / "disk"
    place.mkdir()
    for name, size in DISKS.items():
        mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]
        if os.name != "posix" or subprocess.run(mount, stderr=subprocess.DEVNULL).returncode:
            tally["not tried"] += 1
            continue
        try:
            code, said = run(cases[name].arguments(place))
            what = "fits" if not code else "clear error" if code == 1 and "bug" not in said else "unclear"
        except (shutil.Error, OSError) as error:
            what, said = "not tried", type(error).__name__
        finally:
            subprocess.run(["umount", str(place)], check=False)
        tally[what] += 1
        print(f"  {name} on {size}: {what}: {said.strip()[-160:]!r}")
    return tally


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="import,train,write,evaluate,predict,together,disk")
    given = parser.parse_args()
    bad = 0
    with tempfile.TemporaryDirectory() as place:
        home = Path(place)
        cases = prepare(home)
        for number, name in enumerate(given.only.split(",")):
            if name == "together":
                tally = together(cases["import"], home, max(1, given.count // 5))
                tally += together(cases["predict"], home, max(1, given.count // 5))
            elif name == "disk":
                tally = full_disk(cases, home)
            else:
                tally = kill(cases[name], home, given.count, random.Random(given.seed * 100 + number))
            bad += sum(tally[what] for what in ("cannot go on", "other result", "unfinished left", "unclear"))
            print(f"{name:9}", "  ".join(f"{what} {n}" for what, n in sorted(tally.items()) if n), flush=True)
    print(f"seed {given.seed}, {given.count} each: {bad} lost, half or unclear")
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
