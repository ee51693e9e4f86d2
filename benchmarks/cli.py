"""How fast `chiasm --help` answers: the median of ten fresh processes, beside a Python that does nothing.

    python benchmarks/cli.py [--repeats 10]

Prints one line and writes results/cli.json beside this file. The ceiling is 0.6 s; the exit status is 1 above it.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
CEILING = 0.6


def seconds(command: list[str], repeats: int) -> list[float]:
    """Wall time of each run, after one that fills the caches."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - start)
    return times[1:]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=10)
    repeats = parser.parse_args().repeats
    program = str(Path(sys.executable).with_name("chiasm"))
    found = {
        "chiasm --help": seconds([program, "--help"], repeats),
        "chiasm train --help": seconds([program, "train", "--help"], repeats),
        "python -c pass": seconds([sys.executable, "-c", "pass"], repeats),
    }
    result = {
        "repeats": repeats,
        "median_seconds": {name: round(statistics.median(times), 3) for name, times in found.items()},
        "slowest_seconds": {name: round(max(times), 3) for name, times in found.items()},
        "ceiling_seconds": CEILING,
    }
    (HERE / "results").mkdir(exist_ok=True)
    (HERE / "results" / "cli.json").write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    median = statistics.median(found["chiasm --help"])
    print(
        f"chiasm --help: {median:.2f} s (ceiling {CEILING} s), train --help and an empty Python:",
        result["median_seconds"],
    )
    return int(median > CEILING)


if __name__ == "__main__":
    raise SystemExit(main())
