"""Photos of one person -> a 3D face:  python demo.py IMAGE... | FOLDER | VIDEO | webcam [--model RUN] [-o demo.ply]

Finds the face in every picture, reconstructs one face from all of them, photo by photo, and writes it: a mesh with
colours (a point cloud where the model's points have no order), its 68 landmarks, and a preview, the photo and the face
from three sides. The ending of --output says how: .ply, .obj (with .mtl and texture) or .glb; --expression and
--surface what. With .mp4 or .avi the faces are drawn into a video, frame by frame, and their numbers written beside it.
--serve opens a web page for the same: photos or the webcam in, a face to turn and to download out.
"""
from __future__ import annotations

import argparse
import logging
import sys
import time
from collections import deque
from itertools import chain
from pathlib import Path

from Evaluation.serve import ServeConfig, serve
from Evaluation.views import VIEWS, make_viewer
from Network.demo_options import FRAMES, films, parse
from Network.flags import exit_code

BEGUN = time.perf_counter()         # start-up is counted from here


def serve_page(arguments: argparse.Namespace) -> None:
    """--serve: answer the page's visitors until Ctrl-C."""
    from Network.answer import Answers
    answers = Answers(arguments.model, arguments.checkpoint)
    serve(answers, answers.networks, arguments.page, lambda url: print(f"open {url} (Ctrl-C ends it)", flush=True))


def film_faces(arguments: argparse.Namespace) -> None:
    """--output of .mp4 or .avi: the video with its faces drawn, and their numbers beside it."""
    from Evaluation.overlay import Overlay, OverlayConfig
    from Network.film import MAX_FRAMES, film
    from Network.loading import DEFAULT_MODEL, load_model
    from Network.results import refuse_overwriting
    from Network.track import MOST_FACES
    from Network.video_networks import make_face_network
    refuse_overwriting(Path(arguments.output), arguments.inputs)
    network = make_face_network(load_model(arguments.model or DEFAULT_MODEL, arguments.checkpoint))
    report = film(arguments.inputs[0], network, arguments.output, arguments.film, begun=BEGUN,
                  draw=Overlay(network.triangles, OverlayConfig(labels=arguments.labels)),
                  faces=MOST_FACES if arguments.faces == "all" else 1, most=arguments.frames or MAX_FRAMES)
    print(report, *(f"wrote {file.resolve()}" for file in report.files), sep="\n")


def demo(arguments: argparse.Namespace) -> None:
    """Do what was asked and say where the files are."""
    from Dataset.sources import Picture, example_picture, pictures
    from Evaluation.plots import plot_preview
    from Network.demo_faces import DemoFaces
    from Network.feature_maps import photo_features
    from Network.loading import DEFAULT_MODEL, load_model, put_together
    from Network.predict import NoFace, faces_of
    from Network.results import refuse_overwriting
    loaded, every = load_model(arguments.model or DEFAULT_MODEL, arguments.checkpoint), arguments.faces == "all"
    loaded = put_together(loaded, arguments.together)
    viewer = make_viewer(arguments.view, loaded.config.get("network"), loaded.source, lambda photo: photo_features(
        loaded.model, photo)) if arguments.view else None
    faces = DemoFaces(loaded, arguments.surface, arguments.expression, arguments.iterations)
    output, shown = Path(arguments.output), deque(maxlen=4)
    refuse_overwriting(output, arguments.inputs)
    source: list[Picture] = [example_picture()] if arguments.example else []
    face, number, swap = None, 0, arguments.view == "swap"

    def write(numbered: bool) -> None:
        path = output.with_name(f"{output.stem}_{number:02d}{output.suffix}") if numbered else output
        refuse_overwriting(path, arguments.inputs)
        if viewer:
            refuse_overwriting(viewer.target(path), arguments.inputs)
        mesh, files = faces.write(path)
        preview = path.with_suffix(".png")
        plot_preview([crop.photo for crop in shown], mesh.vertices, mesh.colours, mesh.triangles, preview)
        drawn = []
        if viewer and viewer.picture is not None:       # a swap's first has none
            drawn = [viewer.write(path), *viewer.beside(path)]
        print(*(f"wrote {file.resolve()}" for file in (*files, preview, *drawn)), sep="\n")
    found = faces_of(chain(source, pictures(arguments.inputs, arguments.frames or FRAMES)), loaded, box=arguments.box,
                     every_face=every)
    for crops in found:
        for crop in crops:
            if every or swap:       # another person
                faces.reset()
                shown.clear()
            if every and viewer and not swap:
                viewer.reset()
            try:
                face, number = faces.add(crop), number + 1
            except NoFace as error:
                logging.warning("%s; skipped", error)
                continue
            shown.append(face.crops[-1])
            if viewer:
                seen = face.crops[-1]
                viewer.draw_in(crop.whole, seen.box, seen.photo, faces.reading())
            if arguments.each or every:
                write(numbered=arguments.each or len(crops) > 1)
    if face is None:
        raise ValueError("no face in any of the pictures")
    if viewer:
        viewer.require()
    if not (arguments.each or every):
        if faces.alone:
            logging.warning("--surface %s shows the last of %d photos; --each writes one of every photo",
                            arguments.surface, number)
        write(numbered=False)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="demo.py: %(message)s")
    words = parse(__doc__, ServeConfig, VIEWS)
    sys.exit(exit_code("demo.py", serve_page if words.serve else film_faces if films(words) else demo, words))
