"""How fast `import_cohort` takes ChestX-ray14: images a second from files on disk to the finished cohort, one process.

    python benchmarks/import_speed.py [--data ../shared/data/nih-chestxray14] [--repeats 3]

Prints one line and writes results/import_speed.json beside this file. The floor is 60 images a second. The reader alone
(tables and decoding, nothing stored) is timed as well, to tell what the store costs.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

from chiasm.cohort.imports import import_cohort
from chiasm.sources.chestxray14 import read

HERE = Path(__file__).resolve().parent
FLOOR = 60.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=HERE.parents[1] / "shared" / "data" / "nih-chestxray14")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    if not arguments.data.is_dir():
        print(f"no data at {arguments.data}")
        return 1
    whole, reading = [], []
    for _ in range(arguments.repeats):
        start = time.perf_counter()
        images = sum(1 for _ in read(arguments.data))
        reading.append(images / (time.perf_counter() - start))
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            cohort = import_cohort("chestxray14", arguments.data, Path(folder) / "cohort")
            whole.append(len(cohort.images) / (time.perf_counter() - start))
    result = {
        "images": len(cohort.images),
        "size": cohort.size,
        "repeats": arguments.repeats,
        "images_per_second": round(statistics.median(whole), 1),
        "images_per_second_slowest": round(min(whole), 1),
        "images_per_second_reading_alone": round(statistics.median(reading), 1),
        "floor_images_per_second": FLOOR,
    }
    (HERE / "results").mkdir(exist_ok=True)
    (HERE / "results" / "import_speed.json").write_text(json.dumps(result, indent=1) + "\n")
    print(
        "import of {images} images: {images_per_second} images/s (reading alone {images_per_second_reading_alone})".format(
            **result
        )
    )
    return 0 if min(whole) >= FLOOR else 1


if __name__ == "__main__":
    sys.exit(main())
