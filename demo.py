"""Photos of one person -> a 3D face:  python demo.py IMAGE... | FOLDER | VIDEO | webcam [--model RUN] [-o demo.ply]

Finds the face in every picture, reconstructs one face from all of them, writes a point cloud (a mesh with colours
where the model's points are ordered) and beside it a preview, the photo and the face from three sides, as .png.
"""
from __future__ import annotations

import argparse
import logging
import sys
from itertools import chain
from pathlib import Path

from Network.flags import exit_code

DEFAULT_MODEL = "runs/demo/run"


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
    parser.add_argument("--model", default=DEFAULT_MODEL, metavar="RUN", help="run folder, .keras or .h5 file")
    parser.add_argument("--checkpoint", default="best_validation", help="which weights of a run folder")
    parser.add_argument("-o", "--output", default="demo.ply", metavar="FILE.ply")
    parser.add_argument("--faces", choices=("largest", "all"), default="largest",
                        help="all: a face of its own for every face in one picture")
    parser.add_argument("--box", type=box_of, metavar="X,Y,W,H", help="where the face is, in place of the detector")
    parser.add_argument("--each", action="store_true", help="one face after every picture, to watch it improve")
    parser.add_argument("--frames", type=int, default=8, metavar="N", help="frames of a video or the webcam; default 8")
    arguments = parser.parse_args(argv)
    if not arguments.inputs and not arguments.example:
        parser.error("name a photo, a folder, a video or webcam, or try --example")
    if Path(arguments.output).suffix.lower() != ".ply":
        parser.error(f"--output must end in .ply, got {arguments.output}")
    if arguments.frames < 1:
        parser.error(f"--frames must be at least 1, got {arguments.frames}")
    return arguments


def demo(arguments: argparse.Namespace) -> None:
    """Do what was asked and say where the files are."""
    from Dataset.sources import Picture, example_picture, pictures
    from Evaluation.plots import plot_preview
    from Network.loading import load_model
    from Network.predict import face_mesh, read_faces, reconstruct
    from Dataset.mesh import write_mesh
    if arguments.model == DEFAULT_MODEL and not Path(DEFAULT_MODEL).exists():
        raise ValueError(f"{DEFAULT_MODEL}: no model yet; run `make demo` once, or give --model RUN")
    loaded = load_model(arguments.model, arguments.checkpoint)
    source: list[Picture] = [example_picture()] if arguments.example else []
    output = Path(arguments.output)
    written = {path.resolve() for path in (output, output.with_suffix(".png"))}
    if any(Path(name).resolve() in written for name in arguments.inputs):
        raise ValueError(f"{output}: would overwrite one of the pictures; name another --output")
    shown = chain(source, pictures(arguments.inputs, arguments.frames))
    found = read_faces(shown, loaded.image_size, box=arguments.box, every_face=arguments.faces == "all")
    if arguments.faces == "all":
        if len(found) > 1:
            raise ValueError(f"--faces all takes one picture, since nobody says who is who across {len(found)}")
        jobs = [[crop] for crop in found[0]]
    else:
        crops = [faces[0] for faces in found]
        jobs = [crops[:i + 1] for i in range(len(crops))] if arguments.each else [crops]
    for number, crops in enumerate(jobs, start=1):
        path = output if len(jobs) == 1 else output.with_name(f"{output.stem}_{number:02d}.ply")
        mesh = face_mesh(reconstruct(loaded, crops), ordered=loaded.order == "grid")
        write_mesh(path, mesh)
        photos = [crop.photo for crop in crops]
        plot_preview(photos, mesh.vertices, mesh.colours, mesh.triangles, path.with_suffix(".png"))
        print(f"wrote {path.resolve()}\nwrote {path.with_suffix('.png').resolve()}")


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="demo.py: %(message)s")
    sys.exit(exit_code("demo.py", demo, parse()))
