"""The command line of demo.py."""
from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Iterator, Sequence

from Dataset.face_model.model import use_face_model
from Dataset.io.images import MAX_PIXELS
from Dataset.io.video_files import MAX_FRAMES
from Network.config.declared import declared, explained
from Network.config.flags import add_flags, from_dict, given
from Network.engine.face_detector import BLAZEFACE, DETECTORS
from Network.engine.loaded import DEFAULT_MODEL, ENGINES
from Network.inference.texture import SIDES, TEXTURE
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


VIDEO_ENDINGS = (".mp4", ".avi")
MAX_PASSES = 1000       # of an iterated network
VIDEO_VIEWS = ("lines", "points", "texture")        # of views those that can be drawn into a video
FRAMES = 8              # of a video or the webcam, where one face is made of them


def parse(description: str, page: type, views: Sequence[str], argv: list[str] | None = None) -> argparse.Namespace:
    """Parse a command line; `page` of the result is an instance of the class `page`. Exits with code 2 for a bad one.

    page   frozen dataclass of the web page's settings: each field is a flag
    views  the views that some network can be drawn in
    """
    parser = argparse.ArgumentParser(description=description, allow_abbrev=False,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("inputs", nargs="*", metavar="IMAGE|FOLDER|VIDEO|webcam")
    parser.add_argument("--example", action="store_true", help="use a public-domain photo (NASA's Eileen Collins)")
    parser.add_argument("--model", metavar="RUN", help="run folder, .keras or .h5 file, or the name of a "
                        "bundled network; default compact")
    parser.add_argument("--checkpoint", default="best_validation",
                        help="best_validation (default), best_training or last of a run folder")
    parser.add_argument("--engine", choices=ENGINES, help="what runs the network; default onnxruntime for bundled and "
                        "packed networks, keras for run folders")
    parser.add_argument("--face-model", metavar="FILE",
                        help="Basel, FLAME or ICT-FaceKit model, in place of the built-in one")
    parser.add_argument("-o", "--output", default="demo.ply", metavar="FILE", help="default demo.ply; "
                        f"{', '.join(ENDINGS)}: a face; {', '.join(VIDEO_ENDINGS)}: the faces drawn into the video")
    parser.add_argument("--overwrite", action="store_true", help="replace files that this program has not written, too")
    parser.add_argument("--faces", choices=("largest", "all"), default="largest",
                        help="all: reconstruct every face of an image separately; default largest")
    parser.add_argument("--box", type=box_of, metavar="X,Y,W,H",
                        help="box of the face in pixels, in place of the detector")
    parser.add_argument("--detector", choices=DETECTORS, default=BLAZEFACE, help="of faces in photos: blazeface "
                        "(default) finds them at any roll; thesis: OpenCV's frontal cascade (OpenCV 4); dlib")
    parser.add_argument("--each", action="store_true", help="write the face after every photo")
    parser.add_argument("--frames", type=int, metavar="N", help="frames of a video or the webcam that are used; "
                        f"default {FRAMES} for a face, all for a video")
    parser.add_argument("--labels", action="store_true", help="draw boxes and track numbers into a video, too")
    parser.add_argument("--expression", action="store_true", default=None, help="write the face with the last photo's "
                        "expression, where the network predicts it; default for one photo")
    parser.add_argument("--neutral", action="store_false", dest="expression", default=None, help="write the subject's "
                        "neutral face; default for several photos")
    parser.add_argument("--texture-size", type=int, metavar="N", default=TEXTURE, help="texels a side of the texture "
                        f"of .obj, .glb and the preview, {SIDES[0]} to {SIDES[1]}; default {TEXTURE}")
    parser.add_argument("--surface", choices=SURFACES, default=FIT, help="fit: the face (default); else the surface of "
                        "the last photo in its pose: points, mesh, poisson (a Poisson surface) or watertight of the "
                        "depth map, or volume")
    parser.add_argument("--iterations", type=int, default=0, metavar="N", help="at most N passes of an "
                        "iterative network over a photo, drawn to NAME_iterations.png")
    parser.add_argument("--fusion", choices=("mean", "joint"), help="how coarse fuses photos: the mean of their "
                        "identities (default), or one face fitted jointly to all")
    parser.add_argument("--view", choices=views, help="also draw the network's prediction for each photo, to "
                        f"NAME_VIEW.png; into a video in place of the faces: {', '.join(VIDEO_VIEWS)}")
    parser.add_argument("--blendshapes", metavar="FILE", help="of a video: also write ARKit's 52 blendshapes and the "
                        "head's rotation in each frame, as .csv")
    parser.add_argument("--serve", action="store_true", help="run a web page for photos and the webcam")
    for config, title in ((page, "the web page"),
                          (VideoConfig, f"faces drawn into a video, --output {' or '.join(VIDEO_ENDINGS)}")):
        add_flags(parser, config, title, notes=explained(declared(config.__module__)[config.__name__]))
    arguments = parser.parse_args(argv)
    typed, typed_video = given(arguments, page), given(arguments, VideoConfig)
    for wrong, message in _refusals(arguments, typed, typed_video):
        if wrong:
            parser.error(message)
    arguments.network = arguments.model or DEFAULT_MODEL
    if arguments.iterations and not arguments.view:
        arguments.view = "iterations"
    if arguments.each and arguments.expression is None:     # of several photos each
        arguments.expression = False
    try:
        if arguments.face_model:
            use_face_model(arguments.face_model)
        arguments.page, arguments.video = from_dict(page, typed), from_dict(VideoConfig, typed_video)
    except ValueError as error:
        parser.error(str(error))
    return arguments


def draws_video(arguments: argparse.Namespace) -> bool:
    """Whether faces are drawn into a video."""
    return Path(arguments.output).suffix.lower() in VIDEO_ENDINGS


def _refusals(arguments: argparse.Namespace, page: dict[str, Any], video: dict[str, Any]) -> Iterator[tuple[Any, str]]:
    """Pairs (is refused, message); the first refusal is printed."""
    ending, drawn = Path(arguments.output).suffix.lower(), draws_video(arguments)
    yield page and not arguments.serve, f"--{_flag(page)} belongs to --serve"
    yield (arguments.serve and (arguments.inputs or arguments.example),
           "--serve takes photos on its page, not on the command line")
    yield (not (arguments.inputs or arguments.example or arguments.serve),
           "name a photo, a folder, a video or webcam, or try --example or --serve")
    yield (ending not in (*ENDINGS, *VIDEO_ENDINGS),
           f"--output must end in {', '.join((*ENDINGS, *VIDEO_ENDINGS))}, got {arguments.output}")
    yield (video or arguments.labels) and not drawn, (f"--{_flag(video) if video else 'labels'} belongs to an --output "
                                                      f"of {' or '.join(VIDEO_ENDINGS)}")
    yield (arguments.frames is not None and not 1 <= arguments.frames <= MAX_FRAMES,
           f"--frames must be within 1 to {MAX_FRAMES}, got {arguments.frames}")
    yield (not SIDES[0] <= arguments.texture_size <= SIDES[1],
           f"--texture-size must be within {SIDES[0]} to {SIDES[1]}, got {arguments.texture_size}")
    yield drawn and arguments.texture_size != TEXTURE, f"--texture-size is for a face, not for an --output of {ending}"
    yield arguments.box and max(map(abs, arguments.box)) > MAX_PIXELS, "--box must lie on the photo, in pixels"
    yield (drawn and (len(arguments.inputs) != 1 or arguments.example or arguments.serve),
           f"an --output of {' or '.join(VIDEO_ENDINGS)} takes one video, or webcam")
    yield (arguments.detector != BLAZEFACE and drawn, "--detector is for photos; a video takes --video-detector")
    yield (drawn and arguments.view and arguments.view not in VIDEO_VIEWS,
           f"--view {arguments.view} is for a face; into a video --view {', '.join(VIDEO_VIEWS)} can be drawn")
    yield arguments.blendshapes and not drawn, ("--blendshapes belongs to an --output of " + " or ".join(VIDEO_ENDINGS)
                                                + "; compact's .glb holds the blendshapes, NAME_pose.json a photo's")
    yield drawn and arguments.view and arguments.labels, "--labels are drawn beside the shaded faces, not with --view"
    chosen = "expression" if arguments.expression else "neutral"
    for name in ("each", "box", "iterations", "fusion"):
        yield drawn and getattr(arguments, name), f"--{name} is for a face, not for an --output of {ending}"
    yield drawn and arguments.expression is not None, f"--{chosen} is for a face, not for an --output of {ending}"
    yield drawn and arguments.surface != FIT, f"--surface is for a face, not for an --output of {ending}"
    yield (arguments.serve and (arguments.expression is not None or arguments.surface != FIT),
           "--expression, --neutral and --surface are for photos named here, not for --serve")
    yield (arguments.expression is not None and arguments.surface != FIT,
           f"--{chosen} is for --surface {FIT}: the other surfaces have the photo's expression anyway")
    yield (arguments.surface == "points" and ending == ".glb",
           "--surface points is a cloud, which a .glb does not hold; write a .ply or an .obj")
    yield (arguments.each and arguments.faces == "all",
           "--each is for one subject, --faces all reconstructs every face of an image separately")
    yield (not 0 <= arguments.iterations <= MAX_PASSES,
           f"--iterations must be within 0 to {MAX_PASSES}, got {arguments.iterations}")


def _flag(typed: dict[str, Any]) -> str:
    return next(iter(typed), "").replace("_", "-")
