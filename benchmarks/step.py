"""How long a training step and a description take, beside another checkout of chiasm in one run.

    python benchmarks/step.py [--against CHECKOUT] [--rounds 15] [--size 128]

`report-fusion` on the phantom chest with cached features of its frozen backbone: a step of 16 studies from the batch to the
optimizer, and descriptions of 16 studies, 3 beams, all 80 words (<eos> is made unlikely). Each checkout works in a process of
its own, with two threads, on a cohort it made itself from one seed; they take turns, so that what else the machine does slows
both. It slows the seconds much, the CPU seconds little; ratios are medians over the rounds. The losses of both tell whether
they train alike. Writes benchmarks/results/step.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve()
STUDIES, BEAMS, WORDS, STEPS = 16, 3, 80, 4  # STEPS: timed in a turn


def work(home: Path, size: int) -> None:
    """Answer the lines "step" and "describe" of the standard input with seconds, until it ends."""
    import torch

    from chiasm.cohort.imports import import_cohort
    from chiasm.recipe import read_recipe
    from chiasm.run.fold_model import load_fold_models, over_own_cohorts
    from chiasm.training.train import TrainingModule, train

    torch.set_num_threads(2)
    options = {"studies": 160, "size": size, "missing": 0.1}
    cohort = import_cohort("phantom-chest", None, home / "cohort", size=size, options=options)
    sets = [f"inputs.image.size={size}", f"train.batch_size={STUDIES}", "train.epochs=1"]
    train(read_recipe("report-fusion", sets), [cohort.path], home / "run")
    fold_model = over_own_cohorts(home / "run", load_fold_models(home / "run"))[0]
    module = TrainingModule(fold_model, fold_model.model)
    module.log = lambda *_, **__: None
    optimizer = module.configure_optimizers()["optimizer"]
    rows = fold_model.split["train"]
    parts = [rows[i : i + STUDIES] for i in range(0, len(rows) - STUDIES + 1, STUDIES)]
    done = 0

    def step() -> dict[str, float]:
        nonlocal done
        begin, cpu, losses = time.perf_counter(), time.process_time(), []
        for _ in range(STEPS):
            loss = module.training_step(fold_model.loader.batch(parts[done % len(parts)]), done)
            optimizer.zero_grad()
            loss.backward()
            module.configure_gradient_clipping(optimizer)
            optimizer.step()
            losses.append(loss.item())
            done += 1
        seconds, cpu = (time.perf_counter() - begin) / STEPS, (time.process_time() - cpu) / STEPS
        return {"seconds": seconds, "cpu_seconds": cpu, "loss": statistics.fmean(losses)}

    def describe() -> dict[str, float]:
        model, batch = fold_model.model.eval(), fold_model.loader.batch(parts[0])
        layers = model.heads["description"]
        layers.beams, layers.max_tokens = BEAMS, WORDS
        eos = layers.decoder.embedding.weight[3]
        kept = eos.detach().clone()
        with torch.no_grad():
            eos.zero_()
            begin, cpu = time.perf_counter(), time.process_time()
            ids = model.answer(model.encode(batch), batch, ["description"]).heads["description"]["ids"]
            seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
            eos.copy_(kept)
        model.train()
        return {"seconds": seconds, "cpu_seconds": cpu, "words": float((ids != 0).sum(dim=1).double().mean())}

    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        print(json.dumps({"step": step, "describe": describe}[line.strip()]()), flush=True)


class Worker:
    """A checkout at work in a process of its own; by its own copy of this file where it has one."""

    def __init__(self, checkout: Path, home: Path, size: int) -> None:
        own = checkout / "benchmarks" / HERE.name
        environment = {
            **os.environ,
            "PYTHONPATH": str(checkout / "src"),
            "OMP_NUM_THREADS": "2",
            "OMP_WAIT_POLICY": "passive",
        }
        home.mkdir()
        self.process = subprocess.Popen(
            [sys.executable, str(own if own.is_file() else HERE), "--work", str(home), "--size", str(size)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )
        git = ["git", "-C", str(checkout), "describe", "--always", "--dirty"]
        self.commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
        self.read()

    def read(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            sys.exit("a worker ended: run it by hand with --work FOLDER to see why")
        return json.loads(line)

    def ask(self, what: str) -> dict[str, float]:
        assert self.process.stdin is not None
        print(what, file=self.process.stdin, flush=True)
        answer: dict[str, float] = self.read()
        return answer

    def end(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def measure(workers: dict[str, Worker], what: str, rounds: int) -> dict[str, Any]:
    """Medians of each worker, and the median over the rounds of how many times as long the other checkout takes."""
    for worker in workers.values():
        worker.ask(what)  # the first one warms up
    turns = []
    for number in range(rounds):
        order = list(workers) if number % 2 else list(workers)[::-1]
        turns.append({name: workers[name].ask(what) for name in order})
    result: dict[str, Any] = {
        name: {key: round(statistics.median(turn[name][key] for turn in turns), 4) for key in turns[0][name]}
        for name in workers
    }
    if "against" in workers:
        for key, ratio in (("seconds", "times_faster"), ("cpu_seconds", "times_faster_cpu")):
            ratios = [turn["against"][key] / turn["now"][key] for turn in turns]
            result[ratio] = {
                "median": round(statistics.median(ratios), 2),
                "lowest": round(min(ratios), 2),
                "highest": round(max(ratios), 2),
            }
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--against", type=Path, help="the folder of another checkout")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work is not None:
        work(arguments.work, arguments.size)
        return
    checkouts = {"now": HERE.parents[1]} | ({"against": arguments.against.resolve()} if arguments.against else {})
    with tempfile.TemporaryDirectory() as home:
        workers = {name: Worker(path, Path(home) / name, arguments.size) for name, path in checkouts.items()}
        result = {
            "what": f"{STUDIES} studies of {arguments.size} px, 2 threads; descriptions of {WORDS} words by {BEAMS} beams",
            "rounds": arguments.rounds,
            "steps_a_round": STEPS,
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "commits": {name: worker.commit for name, worker in workers.items()},
            "step": measure(workers, "step", arguments.rounds),
            "description": measure(workers, "describe", max(3, arguments.rounds // 3)),
        }
        for worker in workers.values():
            worker.end()
    out = HERE.parent / "results" / "step.json"
    out.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    for what in ("step", "description"):
        print(what, json.dumps(result[what]))


if __name__ == "__main__":
    main()
