"""Endrawis 2018: Real-Time 3D Face Reconstruction. System `coarse`."""
from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from Dataset.io.images import write_image
from Dataset.io.inputs import example_image
from Dataset.synthesis.shards import open_shards
from Evaluation.papers.plan import Context, Item, Made, Paper, Step, flags, shards

SIDE, PASSES, FRAMES = 200, 3, 3
RUN = {
    "tiny": {"preset": "coarse-small", "image-size": 32, "stem-filters": 8, "no-stem-pool": True, "filters": "8,16",
             "blocks": "1,1", "batch-size": 8, "batches": 4, "epochs": 2, "validation-subjects": 2,
             "precision": "float32", "quiet": True},
    "small": {"preset": "coarse-small"}, "paper": {"preset": "coarse"}}


def steps(scale: str, data: Path, run: Path) -> list[Step]:
    """Shards, and the training."""
    train, _, rendered = shards(scale, data, SIDE)
    return [*rendered, Step(("train.py", str(train), *flags(RUN[scale]), "--run", str(run), "--resume"), True)]


def examples(context: Context) -> Made:
    """Figure 3: image, PNCC, normals, ground truth, prediction; and the error after each pass."""
    folder, images = context.file("examples"), 1 if context.scale == "tiny" else 2
    table = context.table("iterations", "--data", context.test(SIDE), "--model", context.model, "--iterations", PASSES,
                          "--images", images, "--figures", folder)
    return Made(sorted(folder.glob("*.png")), [table], "PNCC and normals are the input of the last pass.")


def iterations(context: Context) -> Made:
    """Figure 4: a photo, from the average face on."""
    return Made([context.demo("iterations", (), "--iterations", PASSES, ends="iterations")])


def grey(context: Context) -> Made:
    """Figure 5: a photo without colours."""
    photo = example_image().image
    path = context.file("grey.png")
    write_image(path, cv2.cvtColor(cv2.cvtColor(photo, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR))
    return Made([context.demo("grey_face", (path,))], text="scikit-image's portrait in grey; the report does not "
                "name its data set of grey faces.")


def photos(context: Context) -> Made:
    """Figure 6: images with the face drawn on them: the last row of the iterations of each."""
    data, paths = open_shards(context.test(SIDE)), []
    for subject in range(1 if context.scale == "tiny" else min(2, len(data))):
        path = context.file(f"render{subject}.png")
        image = data.gather("images", [subject], [0])[0]
        write_image(path, image)
        box = f"0,0,{image.shape[1]},{image.shape[0]}"
        paths.append(context.demo(f"render{subject}_face", (path,), "--box", box, "--iterations", PASSES,
                                  ends="iterations"))
    return Made(paths, text="rendered test images: the celebrity photos of the report are not free.")


def video(context: Context) -> Made:
    """Figure 7: frames of a video with the face drawn into them."""
    source, drawn, path = context.file("head.mp4"), context.file("drawn.mp4"), context.file("frames.png")
    if not source.is_file():
        context.command("Dataset.synthetic_video", source, "--frames", 4 * FRAMES, "--seed", 1)
    context.command("demo.py", source, "--model", context.model, "-o", drawn)
    rows = []
    for file in (source, drawn):
        reader, images = cv2.VideoCapture(str(file)), []
        while len(images) < 4 * FRAMES and (read := reader.read())[0]:
            images.append(read[1])
        reader.release()
        if not images:
            raise ValueError(f"{file}: holds no frame")
        chosen = [images[i] for i in np.linspace(0, len(images) - 1, FRAMES).astype(int)]
        rows.append(np.hstack([cv2.resize(image, (400, 300), interpolation=cv2.INTER_AREA) for image in chosen]))
    write_image(path, np.vstack(rows))
    return Made([path], text="a rendered video; one pass a frame, from the last frame's face.")


ITEMS = (
    Item("Figure 1", "the ResNet", "a drawing; Network/models/coarse.py names each layer"),
    Item("Figure 2", "the iterative system", "a drawing; figure 4 shows it at work"),
    Item("Section 3.1.3", "training", Context.curve, "over-fits from about epoch 10 on, early stop"),
    Item("Figure 3", "synthetic examples", examples, "very close, but not exact; no number"),
    Item("Figure 4", "iterations on a photo", iterations, "3 to 5 iterations converge"),
    Item("Figure 5", "grey photos", grey),
    Item("Figure 6", "photos with the reconstruction on them", photos),
    Item("Figure 7", "frames of videos", video),
    Item("Figure 8", "the real-time window", "a window needs a camera; demo.py webcam and --serve show it",
         "13 to 14 frames a second on a laptop"))

PAPER = Paper("endrawis", "Endrawis 2018, Real-Time 3D Face Reconstruction", "coarse", "coarse-small", steps, ITEMS,
              ["The report prints no error; its evaluation is by eye."])
