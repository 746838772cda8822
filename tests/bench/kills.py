"""Kill a maker of data at random moments, start it again, and compare with an undisturbed run.

    python -m tests.bench.kills synthetic|shards|bu4dfe|texas3d|synthetic_video [--kills 20] [--seed 0]

Each run has two workers. A kill takes the process or one of its workers, in turn, after a random part of the time that
the undisturbed run took. The next run continues in the same folder; a run that ends is compared with the undisturbed
one, byte by byte and hidden files included, and the next one starts anew.
"""
from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tests.forkserver import run
from tests.kills import DEADLINE, Killed, digests, run_and_kill
from tests.raw_bu4dfe import write_raw
from tests.texas3d_files import write_database

SMALL = {"synthetic": "--subjects 5 --images 3 --size 32 --points 64",
         "shards": "--subjects 66 --images 1 --size 16 --detect 0 --texture grey",
         "bu4dfe": "--points 128 --size 32", "texas3d": "--size 48 --points 500",
         "synthetic_video": "--frames 20 --width 64 --height 48"}


class Outcome(NamedTuple):
    """kills; differing: finished runs whose folder is not the undisturbed run's; compared: finished runs."""

    kills: list[Killed]
    differing: int
    compared: int

    def faults(self) -> list[str]:
        return [kill.fault for kill in self.kills if kill.fault] + ["differs"] * self.differing


def command(maker: str, folder: Path, out: Path) -> list[object]:
    """The words of a small run of a maker into the folder `out`; its sources, where it has some, are in `folder`."""
    raw = folder / f"{maker}_source"
    if not raw.exists():
        if maker == "bu4dfe":
            write_raw(raw, ("F001", "F002", "F003", "M001"), frames=2, height=134)
        elif maker == "texas3d":
            write_database(raw)
    sources = [raw] if maker in ("bu4dfe", "texas3d") else []
    target = out / "v.mp4" if maker == "synthetic_video" else out
    workers = [] if maker == "synthetic_video" else ["--workers", 2]
    return ["-m", f"Dataset.{maker}", *sources, target, *SMALL[maker].split(), *workers]


def trial(maker: str, kills: int, seed: int, folder: Path) -> Outcome:
    """Kill a maker so many times."""
    rng = np.random.default_rng(seed)
    victims = ["parent"] if maker == "synthetic_video" else ["parent", "worker"]
    clean, out = folder / f"{maker}_clean", folder / maker
    begun = time.monotonic()
    run(*command(maker, folder, clean), timeout=DEADLINE, check=True)
    whole, expected = time.monotonic() - begun, digests(clean)
    done, differing, compared = [], 0, 0
    while len(done) < kills:
        moment = time.monotonic() + rng.uniform(0, whole)
        killed = run_and_kill(command(maker, folder, out), victims[len(done) % len(victims)],
                              lambda: time.monotonic() > moment, int(rng.integers(2)))
        if killed:
            done.append(killed)
            print(f"{maker:16s} {len(done):3d} {killed.victim:7s} after {killed.seconds:5.1f} of {whole:.1f} s: "
                  f"{killed.fault or 'fine'}", flush=True)
        if not killed or len(done) == kills:
            run(*command(maker, folder, out), timeout=DEADLINE, check=True)
            compared, differing = compared + 1, differing + (digests(out) != expected)
            shutil.rmtree(out)
    return Outcome(done, differing, compared)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("maker", choices=SMALL)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = trial(options.maker, options.kills, options.seed, Path(folder))
    count = {victim: sum(kill.victim == victim for kill in found.kills) for victim in ("parent", "worker")}
    print(f"{options.maker}: {len(found.kills)} kills (of {count['parent']} processes and {count['worker']} workers); "
          f"{found.compared} runs to the end, {found.differing} of them differ; faults: "
          f"{', '.join(found.faults()) or 'none'}")
    return bool(found.faults())


if __name__ == "__main__":
    sys.exit(main())
