"""A paper, reproduced:  python -m Evaluation.papers thomassen --scale tiny|small|paper [-o FOLDER]

Renders the data, trains the paper's network, makes its tables and figures, and writes FOLDER/report.html (one file) and
FOLDER/report.md. The same command goes on where a killed one was.
"""
from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from Dataset.io.command import one_line
from Evaluation.papers.plan import SCALES, StepFailed
from Evaluation.papers.reproduce import PAPERS, load_paper, reproduce

WEIGHTS = Path(__file__).parents[2] / "Network" / "weights"


@one_line("papers", resumable=True)
def main(argv: list[str] | None = None) -> int:
    """Run a command line -> 0; 2 for bad input, a failed step's own code for that."""
    parser = argparse.ArgumentParser(prog="python -m Evaluation.papers", description=__doc__, allow_abbrev=False,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paper", help=", ".join(PAPERS))
    parser.add_argument("--scale", default="small", help=f"{', '.join(SCALES)}; default small")
    parser.add_argument("-o", "--output", type=Path, metavar="FOLDER", help="default runs/papers/PAPER-SCALE")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="of the data sets, which the papers share; default "
                        "runs/papers/data-SCALE")
    parser.add_argument("--train", action="store_true", help="of small: train, though weights are bundled")
    arguments = parser.parse_args(argv)
    load_paper(arguments.paper)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    out = arguments.output or Path("runs/papers") / f"{arguments.paper}-{arguments.scale}"
    data = arguments.data or Path("runs/papers") / f"data-{arguments.scale}"
    try:
        paths = reproduce(arguments.paper, arguments.scale, out, data, arguments.train, WEIGHTS)
    except StepFailed as failed:        # the step has said what is wrong in its own line
        return failed.code
    print(*(f"wrote {path}" for path in paths), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
