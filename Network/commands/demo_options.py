"""The command line of demo.py."""
from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Iterator, Sequence

from Dataset.face_model.model import use_face_model
from Network.config.flags import add_flags, from_dict, given
from Network.video.video import VideoConfig

ENDINGS = (".ply", ".obj", ".glb")
SURFACES = ("fit", "points", "mesh", "poisson", "watertight", "volume")
FIT, VOLUME = SURFACES[0], SURFACES[-1]


def box_of(text: str) -> tuple[int, int, int, int]:
    """x,y,w,h in pixels."""
    try:
        x, y, w, h = (int(v) for v in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be four integers x,y,w,h, got {text!r}") from None
    return x, y, w, h


FILMS = (".mp4", ".avi")
FRAMES = 8              # of a video or the webcam, where one face is made of them


def parse(description: str, page: type, views: Sequence[str], argv: list[str] | None = None) -> argparse.Namespace:
    """The words of a command line, `page` an instance of the class of that name. Exits with code 2 for bad ones.

    page   frozen dataclass of the web page's settings: each field is a flag
    views  that some network can be drawn in
    """
    parser = argparse.ArgumentParser(description=description, allow_abbrev=False,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("inputs", nargs="*", metavar="IMAGE|FOLDER|VIDEO|webcam")
    parser.add_argument("--example", action="store_true", help="a public-domain photo (NASA's Eileen Collins)")
    parser.add_argument("--model", metavar="RUN", help="run folder, .keras or .h5 file; default the bundled weights")
    parser.add_argument("--checkpoint", default="best_validation", help="which weights of a run folder")
    parser.add_argument("--face-model", metavar="FILE", help="Basel, FLAME or ICT-FaceKit for the built-in face")
    parser.add_argument("-o", "--output", default="demo.ply", metavar="FILE", help=f"a face: {', '.join(ENDINGS)}; the "
                        f"faces drawn into a video or the webcam's image, numbers beside it: {', '.join(FILMS)}")
    parser.add_argument("--faces", choices=("largest", "all"), default="largest",
                        help="all: a face of its own for every face in one photo")
    parser.add_argument("--box", type=box_of, metavar="X,Y,W,H", help="where the face is, in place of the detector")
    parser.add_argument("--each", action="store_true", help="one face after every photo, to watch it improve")
    parser.add_argument("--frames", type=int, metavar="N", help=f"frames of a video or the webcam; default {FRAMES}, "
                        "where they are drawn in all")
    parser.add_argument("--labels", action="store_true", help="draw boxes and numbers, too, into a video")
    parser.add_argument("--expression", action="store_true", help="the last photo's expression, not the neutral face, "
                        "of a network that sees it")
    parser.add_argument("--surface", choices=SURFACES, default=FIT, help="the face (default), or what the network sees "
                        "in the last photo, turned as there; of its depth map: a coloured cloud, its triangles from "
                        "pixel to pixel, Poisson's surface, or that without a border; of its volume: volume")
    parser.add_argument("--iterations", type=int, default=0, metavar="N", help="of an iterated network: at most so "
                        "many passes over a photo, drawn as NAME_iterations.png")
    parser.add_argument("--fusion", choices=("mean", "joint"), help="of coarse: several photos become one subject by "
                        "the mean of their identities (default), or by one face fitted to where theirs lie")
    parser.add_argument("--view", choices=views, help="also draw what the network sees in each photo, as "
                        "NAME_VIEW.png")
    parser.add_argument("--serve", action="store_true", help="open a web page that takes photos and the webcam")
    add_flags(parser, page, "the web page")
    add_flags(parser, VideoConfig, f"faces drawn into a video, --output {' or '.join(FILMS)}")
    arguments = parser.parse_args(argv)
    typed, typed_film = given(arguments, page), given(arguments, VideoConfig)
    for wrong, message in _refusals(arguments, typed, typed_film):
        if wrong:
            parser.error(message)
    if arguments.iterations and not arguments.view:
        arguments.view = "iterations"
    try:
        if arguments.face_model:
            use_face_model(arguments.face_model)
        arguments.page, arguments.film = from_dict(page, typed), from_dict(VideoConfig, typed_film)
    except ValueError as error:
        parser.error(str(error))
    return arguments


def films(arguments: argparse.Namespace) -> bool:
    """Whether faces are drawn into a video."""
    return Path(arguments.output).suffix.lower() in FILMS


def _refusals(arguments: argparse.Namespace, page: dict[str, Any], film: dict[str, Any]) -> Iterator[tuple[Any, str]]:
    """(condition, message) of each combination that is refused."""
    ending, drawn = Path(arguments.output).suffix.lower(), films(arguments)
    yield page and not arguments.serve, f"--{_flag(page)} belongs to --serve"
    yield (arguments.serve and (arguments.inputs or arguments.example),
           "--serve takes photos on its page, name none here")
    yield (not (arguments.inputs or arguments.example or arguments.serve),
           "name a photo, a folder, a video or webcam, or try --example or --serve")
    yield (ending not in (*ENDINGS, *FILMS),
           f"--output must end in {', '.join((*ENDINGS, *FILMS))}, got {arguments.output}")
    yield (film or arguments.labels) and not drawn, (f"--{_flag(film) if film else 'labels'} belongs to an --output of "
                                                     f"{' or '.join(FILMS)}")
    yield arguments.frames is not None and arguments.frames < 1, f"--frames must be at least 1, got {arguments.frames}"
    yield (drawn and (len(arguments.inputs) != 1 or arguments.example or arguments.serve),
           f"an --output of {' or '.join(FILMS)} takes one video, or webcam")
    for name in ("each", "box", "expression", "view", "iterations", "fusion"):
        yield drawn and getattr(arguments, name), f"--{name} is for a face, not for an --output of {ending}"
    yield drawn and arguments.surface != FIT, f"--surface is for a face, not for an --output of {ending}"
    yield (arguments.serve and (arguments.expression or arguments.surface != FIT),
           "--expression and --surface are for photos named here, not for --serve")
    yield (arguments.expression and arguments.surface != FIT,
           f"--expression is for --surface {FIT}: a depth map shows the photo's anyway")
    yield (arguments.surface == "points" and ending == ".glb",
           "--surface points is a cloud, which a .glb does not hold; write a .ply or an .obj")
    yield (arguments.each and arguments.faces == "all",
           "--each follows one subject, --faces all makes a face for everyone in a photo")
    yield arguments.iterations < 0, f"--iterations must not be negative, got {arguments.iterations}"


def _flag(typed: dict[str, Any]) -> str:
    return next(iter(typed), "").replace("_", "-")
