"""Photos of one person -> a 3D face:  python demo.py IMAGE... | FOLDER | VIDEO | webcam [--model RUN] [-o demo.ply]

Finds the face in every picture, reconstructs one face from all of them, photo by photo, and writes it: a mesh with
colours (a point cloud where the model's points have no order), its 68 landmarks, and a preview, the photo and the face
from three sides. The ending of --output says how: .ply, .obj (with .mtl and texture) or .glb. --serve opens a web page
for the same: photos or the webcam in, a face to turn and to download out.
"""
from __future__ import annotations

import argparse
import logging
import sys
from collections import deque
from itertools import chain
from pathlib import Path

from Evaluation.serve import ServeConfig, serve
from Evaluation.uv_pictures import VIEWS, ViewWriter
from Network.demo_options import parse
from Network.flags import exit_code


def serve_page(arguments: argparse.Namespace) -> None:
    """--serve: answer the page's visitors until Ctrl-C."""
    from Network.answer import Answers
    answers = Answers(arguments.model, arguments.checkpoint)
    serve(answers, answers.networks, arguments.page, lambda url: print(f"open {url} (Ctrl-C ends it)", flush=True))


def demo(arguments: argparse.Namespace) -> None:
    """Do what was asked and say where the files are."""
    from Dataset.sources import Picture, example_picture, pictures
    from Evaluation.plots import plot_preview
    from Network.loading import DEFAULT_MODEL, load_model
    from Network.predict import NoFace, faces_of
    from Network.results import refuse_overwriting, write_result
    from Network.streaming import make_stream
    from Network.uvnet import read_maps
    loaded, every = load_model(arguments.model or DEFAULT_MODEL, arguments.checkpoint), arguments.faces == "all"
    viewer = ViewWriter(arguments.view) if arguments.view else None
    if viewer and loaded.config.get("network") != "uvnet":
        raise ValueError(f"--view draws what uvnet sees; {loaded.source} is another network")
    stream, output, shown = make_stream(loaded), Path(arguments.output), deque(maxlen=4)
    refuse_overwriting(output, arguments.inputs)
    source: list[Picture] = [example_picture()] if arguments.example else []
    face, number = None, 0

    def write(numbered: bool) -> None:
        path = output.with_name(f"{output.stem}_{number:02d}{output.suffix}") if numbered else output
        refuse_overwriting(path, arguments.inputs)
        if viewer:
            refuse_overwriting(viewer.target(path), arguments.inputs)
        mesh, files = write_result(path, face, loaded.order == "grid")
        preview = path.with_suffix(".png")
        plot_preview([crop.photo for crop in shown], mesh.vertices, mesh.colours, mesh.triangles, preview)
        drawn = [viewer.write(path)] if viewer else []
        print(*(f"wrote {file.resolve()}" for file in (*files, preview, *drawn)), sep="\n")
    found = faces_of(chain(source, pictures(arguments.inputs, arguments.frames)), loaded, box=arguments.box,
                     every_face=every)
    for crops in found:
        for crop in crops:
            if every:
                stream.reset()
                shown.clear()
                if viewer:
                    viewer.reset()
            try:
                face, number = stream.add(crop), number + 1
            except NoFace as error:
                logging.warning("%s; skipped", error)
                continue
            shown.append(face.crops[-1])
            if viewer:
                viewer.draw(face.crops[-1].photo, read_maps(stream.answer))
            if arguments.each or every:
                write(numbered=arguments.each or len(crops) > 1)
    if face is None:
        raise ValueError("no face in any of the pictures")
    if not (arguments.each or every):
        write(numbered=False)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="demo.py: %(message)s")
    words = parse(__doc__, ServeConfig, VIEWS)
    sys.exit(exit_code("demo.py", serve_page if words.serve else demo, words))
