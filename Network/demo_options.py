"""The command line of demo.py."""
from __future__ import annotations

import argparse
from pathlib import Path
from typing import Sequence

from Network.flags import add_flags, from_dict, given

ENDINGS = (".ply", ".obj", ".glb")


def box_of(text: str) -> tuple[int, int, int, int]:
    """x,y,w,h in pixels."""
    try:
        x, y, w, h = (int(v) for v in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be four integers x,y,w,h, got {text!r}") from None
    return x, y, w, h


def parse(description: str, page: type, views: Sequence[str], argv: list[str] | None = None) -> argparse.Namespace:
    """The words of a command line, `page` an instance of the class of that name. Exits with code 2 for bad ones.

    page   frozen dataclass of the web page's settings: each field is a flag
    views  of a UV map
    """
    parser = argparse.ArgumentParser(description=description, allow_abbrev=False,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("inputs", nargs="*", metavar="IMAGE|FOLDER|VIDEO|webcam")
    parser.add_argument("--example", action="store_true", help="a public-domain photo (NASA's Eileen Collins)")
    parser.add_argument("--model", metavar="RUN", help="run folder, .keras or .h5 file; default the weights in the box")
    parser.add_argument("--checkpoint", default="best_validation", help="which weights of a run folder")
    parser.add_argument("-o", "--output", default="demo.ply", metavar="FILE", help=f"{', '.join(ENDINGS)}")
    parser.add_argument("--faces", choices=("largest", "all"), default="largest",
                        help="all: a face of its own for every face in one picture")
    parser.add_argument("--box", type=box_of, metavar="X,Y,W,H", help="where the face is, in place of the detector")
    parser.add_argument("--each", action="store_true", help="one face after every picture, to watch it improve")
    parser.add_argument("--frames", type=int, default=8, metavar="N", help="frames of a video or the webcam; default 8")
    parser.add_argument("--view", choices=views, help="also draw what uvnet sees in each photo, as NAME_VIEW.png")
    parser.add_argument("--serve", action="store_true", help="open a web page that takes photos and the webcam")
    add_flags(parser, page, "the web page")
    arguments = parser.parse_args(argv)
    typed = given(arguments, page)
    if typed and not arguments.serve:
        parser.error(f"--{next(iter(typed))} belongs to --serve")
    if arguments.serve and (arguments.inputs or arguments.example):
        parser.error("--serve takes photos on its page, name none here")
    if not (arguments.inputs or arguments.example or arguments.serve):
        parser.error("name a photo, a folder, a video or webcam, or try --example or --serve")
    if Path(arguments.output).suffix.lower() not in ENDINGS:
        parser.error(f"--output must end in {', '.join(ENDINGS)}, got {arguments.output}")
    if arguments.frames < 1:
        parser.error(f"--frames must be at least 1, got {arguments.frames}")
    if arguments.each and arguments.faces == "all":
        parser.error("--each follows one person, --faces all gives every face in a picture a face of its own")
    try:
        arguments.page = from_dict(page, typed)
    except ValueError as error:
        parser.error(str(error))
    return arguments
