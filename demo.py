"""Photos of one person -> a 3D face:  python demo.py IMAGE... | FOLDER | VIDEO | webcam [--model RUN] [-o demo.ply]

Finds the face in every picture, reconstructs one face from all of them, photo by photo, and writes it: a mesh with
colours (a point cloud where the model's points have no order), its 68 landmarks, and a preview, the photo and the face
from three sides. The ending of --output says how: .ply, .obj (with .mtl and texture) or .glb.
"""
from __future__ import annotations

import argparse
import logging
import sys
from collections import deque
from itertools import chain
from pathlib import Path

from Network.flags import exit_code

ENDINGS = (".ply", ".obj", ".glb")


def box_of(text: str) -> tuple[int, int, int, int]:
    """x,y,w,h in pixels."""
    try:
        x, y, w, h = (int(v) for v in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be four integers x,y,w,h, got {text!r}") from None
    return x, y, w, h


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False,
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
    arguments = parser.parse_args(argv)
    if not arguments.inputs and not arguments.example:
        parser.error("name a photo, a folder, a video or webcam, or try --example")
    if Path(arguments.output).suffix.lower() not in ENDINGS:
        parser.error(f"--output must end in {', '.join(ENDINGS)}, got {arguments.output}")
    if arguments.frames < 1:
        parser.error(f"--frames must be at least 1, got {arguments.frames}")
    if arguments.each and arguments.faces == "all":
        parser.error("--each follows one person, --faces all gives every face in a picture a face of its own")
    return arguments


def demo(arguments: argparse.Namespace) -> None:
    """Do what was asked and say where the files are."""
    from Dataset.sources import Picture, example_picture, pictures
    from Evaluation.plots import plot_preview
    from Network.loading import DEFAULT_MODEL, load_model
    from Network.predict import faces_of
    from Network.results import refuse_overwriting, write_result
    from Network.streaming import make_stream
    loaded, every = load_model(arguments.model or DEFAULT_MODEL, arguments.checkpoint), arguments.faces == "all"
    stream, output, shown = make_stream(loaded), Path(arguments.output), deque(maxlen=4)
    refuse_overwriting(output, arguments.inputs)
    source: list[Picture] = [example_picture()] if arguments.example else []
    face, number = None, 0

    def write(numbered: bool) -> None:
        path = output.with_name(f"{output.stem}_{number:02d}{output.suffix}") if numbered else output
        refuse_overwriting(path, arguments.inputs)
        mesh, files = write_result(path, face, loaded.order == "grid")
        preview = path.with_suffix(".png")
        plot_preview([crop.photo for crop in shown], mesh.vertices, mesh.colours, mesh.triangles, preview)
        print(*(f"wrote {file.resolve()}" for file in (*files, preview)), sep="\n")
    found = faces_of(chain(source, pictures(arguments.inputs, arguments.frames)), loaded, box=arguments.box,
                     every_face=every)
    for crops in found:
        for crop in crops:
            if every:
                stream.reset()
                shown.clear()
            face, number = stream.add(crop), number + 1
            shown.append(face.crops[-1])
            if arguments.each or every:
                write(numbered=arguments.each or len(crops) > 1)
    if not (arguments.each or every):
        write(numbered=False)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="demo.py: %(message)s")
    sys.exit(exit_code("demo.py", demo, parse()))
