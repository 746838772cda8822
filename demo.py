"""3D face from photos:  python demo.py IMAGE... | FOLDER | VIDEO | webcam [--model RUN] [-o demo.ply]

Detects the face in every photo, reconstructs one face from all of them, and writes a coloured mesh (or a point cloud
where the model's points have no order), its 68 landmarks, and a preview. The suffix of --output selects the format:
.ply, .obj (with .mtl and texture), both in mm, or .glb, in metres. With .mp4 or .avi the faces are drawn into the
video, and their numbers are written to an .npz file beside it. --serve opens a web page for photos or the webcam.
"""
from __future__ import annotations

import argparse
import logging
import sys
import time
from itertools import chain
from pathlib import Path

from Dataset.io.command import one_line, wrote
from Dataset.io.inputs import check_inputs, example_image, read_inputs
from Evaluation.views.registry import VIEWS, make_viewer
from Evaluation.web.serve import ServeConfig, serve
from Network import from_run
from Network.commands.demo_options import FRAMES, draws_video, parse

STARTED = time.perf_counter()       # the start-up time is measured from here


def serve_page(arguments: argparse.Namespace) -> None:
    """--serve: run the web page until Ctrl-C."""
    from Network.commands.answer import Answers
    answers = Answers(arguments.model, arguments.checkpoint, arguments.engine)
    serve(answers, answers.networks, arguments.page, lambda url: print(f"open {url} (Ctrl-C to stop)", flush=True))


def draw_video(arguments: argparse.Namespace) -> None:
    """--output of .mp4 or .avi: draw the faces into the video, and write their numbers beside it."""
    from Evaluation.views.video import frame_drawer
    from Network.commands.blendshape_table import table_writer
    from Network.commands.results import refuse_overwriting
    from Network.video.process import MAX_FRAMES, process_video
    from Network.video.track import MAX_FACES
    for file in filter(None, (arguments.output, arguments.blendshapes)):
        refuse_overwriting(Path(file), arguments.inputs, arguments.overwrite)
    system = from_run(arguments.network, arguments.checkpoint, arguments.engine)
    table, network = table_writer(arguments.blendshapes, system), system.follower()
    report = process_video(arguments.inputs[0], network, arguments.output, arguments.video, begun=STARTED, beside=table,
                           draw=frame_drawer(arguments.view, system, network.triangles, arguments.labels),
                           faces=MAX_FACES if arguments.faces == "all" else 1, limit=arguments.frames or MAX_FRAMES)
    print(report)
    print(wrote(report.files), end="")


def reconstruct(arguments: argparse.Namespace) -> None:
    """Reconstruct the face of the photos, and print the files that were written."""
    from Evaluation.views.demo_output import PhotoOutput
    from Network.commands.demo_faces import FaceWriter
    from Network.commands.results import refuse_overwriting
    from Network.inference.photos import NoFace, faces_of
    every, swap = arguments.faces == "all", arguments.view == "swap"
    predictor = from_run(arguments.network, arguments.checkpoint, arguments.engine, iterations=arguments.iterations,
                         fusion=arguments.fusion)
    predictor.detector, predictor.texture_size = arguments.detector, arguments.texture_size
    viewer = make_viewer(arguments.view, predictor) if arguments.view else None
    faces = FaceWriter(predictor, arguments.surface, arguments.expression)
    output = PhotoOutput(Path(arguments.output), faces.write, viewer,
                         lambda path: refuse_overwriting(path, arguments.inputs, arguments.overwrite))
    source = chain([example_image()] if arguments.example else [],
                   read_inputs(arguments.inputs, arguments.frames or FRAMES))
    for crops in faces_of(source, lambda one: predictor.crops(one, box=arguments.box, every_face=every), every):
        for crop in crops:
            if every or swap:       # another subject
                predictor.reset()
                output.reset(views=every and not swap)
            try:
                face = predictor.add(crop)
            except NoFace as error:
                logging.warning("%s; skipped", error)
                continue
            output.show(crop.whole, face.crop.box, face.crop.photo)
            if arguments.each or every:
                print(wrote(output.write(numbered=arguments.each or len(crops) > 1)), end="")
    print(wrote(output.finish(written=arguments.each or every)), end="")
    if faces.shows_last_only and not (arguments.each or every):
        logging.warning("--surface shows the last of %d photos; --each writes one for every photo", output.count)


@one_line("demo.py")
def main(argv: list[str] | None = None) -> None:
    """Run a command line (None: the process's) -> 0, or 2 after one line for bad input."""
    logging.basicConfig(level=logging.WARNING, format="demo.py: %(message)s")
    words = parse(__doc__, ServeConfig, VIEWS, argv)
    check_inputs(words.inputs)
    (serve_page if words.serve else draw_video if draws_video(words) else reconstruct)(words)


if __name__ == "__main__":
    sys.exit(main())
