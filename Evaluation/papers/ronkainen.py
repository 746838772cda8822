"""Ronkainen 2017: Dense tracking of human facial geometry. System `uvnet`."""
from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from Dataset.io.images import write_image
from Dataset.synthesis.shards import open_shards
from Evaluation.figures.sheet import contact_row
from Evaluation.papers.plan import Context, Item, Made, Paper, Step, flags, shards
from Evaluation.reports.tables import Table
from Evaluation.web.viewer import read_run, summary, write_page

SIDE, TILE = 128, 160
#: the rendering of 3.3: material, pose, shift and mouths
FINAL = {"texture": "blend", "poses": "gaussian", "shift": 0.67, "open-mouths": 0.5}
#: the images of figures 3.6 to 3.8: heads of one grey, of 1/f noise, of blended materials
PLAIN = {"tiny": {"subjects": 4, "images": 1, "size": 64, "detect": 0}, "small": {"subjects": 24, "images": 1},
         "paper": {"subjects": 24, "images": 1}}
RUN = {
    "tiny": {"preset": "uvnet-small", "image-size": 64, "levels": 2, "stem": 8, "features": "8,12",
             "up-features": "8,12", "batch-size": 4, "batches": 60, "epochs": 2, "validation-subjects": 2,
             "learning-rate": 5e-3, "batch-norm-momentum": 0.9, "no-augment": True, "precision": "float32",
             "quiet": True},
    "small": {"preset": "uvnet-small"}, "paper": {"preset": "uvnet"}}


def steps(scale: str, data: Path, run: Path) -> list[Step]:
    """Shards, at scale paper rendered as the thesis's; sets of heads of each material; and the training."""
    train, _, rendered = shards(scale, data, SIDE, "train-blend", **FINAL) if scale == "paper" \
        else shards(scale, data, SIDE)
    plain = [Step(("Dataset.shards", str(data / kind), *flags({**PLAIN[scale], "seed": 1, **look})))
             for kind, look in (("grey", {"texture": "grey"}), ("noise", {"texture": "noise"}), ("blend", FINAL))]
    return [*rendered, *plain, Step(("train.py", str(train), *flags(RUN[scale]), "--run", str(run), "--resume"), True)]


def heads(kind: str):
    """Figures 3.6 to 3.9: the contact sheet of a set of renders."""
    return lambda context: Made([(context.test(SIDE) if kind == "mixed" else context.data / kind) / "sheet.jpg"])


def uv_square(context: Context) -> Made:
    """Figure 3.2: U, V and both as colours; and a face that shows them."""
    steps = np.linspace(0, 1, TILE, dtype=np.float32)
    u, v = np.broadcast_to(steps, (TILE, TILE)), np.broadcast_to(steps[::-1, None], (TILE, TILE))
    zero = np.zeros_like(u)
    shown = open_shards(context.test(SIDE))
    image, uv, mask = (shown.gather(name, [0], [0])[0] for name in ("images", "uv", "mask"))
    face = np.where(mask[..., None], np.dstack([np.zeros_like(mask, float), uv[..., 1], uv[..., 0]]), 0)
    path = context.file("uv.png")
    write_image(path, contact_row([("u", np.dstack([u] * 3)), ("v", np.dstack([v] * 3)),
                                   ("u red, v green", np.dstack([zero, v, u])), ("a render", image),
                                   ("its UV", face)], TILE))
    return Made([path])


def sheet(*names: str):
    """Collages of python -m Datagenerator.augmentation.sheet, which is run once."""
    def make(context: Context) -> Made:
        folder = context.file("augmented")
        if not (folder / "augmented_triplets.jpg").is_file():
            context.command("Datagenerator.augmentation.sheet", context.test(SIDE), "-o", folder, "--images",
                            6 if context.scale == "tiny" else 48)
        return Made([folder / f"{name}.jpg" for name in names])
    return make


def rows_on_photo(context: Context) -> Made:
    """Figures 4.1 and 4.2: the eight images of a row, on scikit-image's portrait."""
    return Made([context.demo("photo", (), "--view", "row", ends="row")], text="one photo in the public domain; CelebA "
                "is licensed. demo.py --view row draws the row of any photo.")


def projection(*views: str):
    """Figures 3.20 to 3.23: one projection of section 3.8 each; at scale tiny the first one."""
    return lambda context: Made([context.demo(f"photo-{view}", (), "--view", view, ends=view)
                                 for view in (views[:1] if context.scale == "tiny" else views)])


def on_renders(context: Context) -> Made:
    """Figure 4.3: renders of the test set, target and result of each map; and the numbers."""
    folder = context.file("renders")
    table = context.table("maps", "--data", context.test(SIDE), "--model", context.model, "--maps", "--images", 2,
                          "--figures", folder)
    return Made(sorted(folder.glob("*.png")), [table], "the test images are not augmented.")


def result_page(context: Context) -> Made:
    """Figure 3.24: the page of the run, and what stands at its top."""
    context.curve()
    run = read_run(context.run)
    page = write_page(context.run, context.out / "run.html")
    metrics = [row[run.columns.index("val_uv")] for row in run.history if "val_uv" in run.columns][-10:]
    last = [value for value in metrics if value is not None]
    rows = [*summary(run), ("evaluation metric, mean of the last ten epochs", f"{np.mean(last):.5g}" if last else "-")]
    return Made([context.run / "loss.png"], [Table("The run", ("what", "value"), rows)], f"the page is {page.name}, "
                "beside this report.")


def on_video(context: Context) -> Made:
    """Figure 4.4: the projections on a frame of a rendered video. demo.py draws a photo; the frame is one."""
    video, frame = context.file("head.mp4"), context.file("frame.png")
    if not video.is_file():
        context.command("Dataset.synthetic_video", video, "--frames", 4, "--seed", 1)
    reader = cv2.VideoCapture(str(video))
    found, image = reader.read()
    reader.release()
    if not found:
        raise ValueError(f"{video}: holds no frame")
    write_image(frame, image)
    return Made([context.demo("on_video", (frame,), "--view", "row", ends="row")], text="a frame of a rendered video.")


ITEMS = (
    Item("Figures 1.1 to 2.5", "goal and related work", "drawings, and images of other authors' papers"),
    Item("Figure 3.1", "workflow", "a drawing of the author's own work; ours is the list of commands above"),
    Item("Figure 3.2", "UV colour mapping", uv_square),
    Item("Figures 3.3 and 3.4", "a modelling session, environment textures", "Blender, and licensed environments: ours "
         "are drawn from noise (Dataset/synthesis/background.py)"),
    Item("Figure 3.5", "textures of the head", "licensed textures; what ours look like shows in the heads below"),
    Item("Figures 3.6 and A.1", "grey heads", heads("grey"), "a network trained on them did not carry to photos"),
    Item("Figures 3.7 and A.2", "1/f noise heads", heads("noise"), "results were not that good"),
    Item("Figures 3.8 and A.3", "non-realistic textures", heads("blend"), "70 photographs of "
         "materials; ours are made of noise"),
    Item("Figure 3.9", "collage of renders", heads("mixed")),
    Item("Figure 3.10", "input, target UV, target mask", sheet("triplets"), "128 x 128; 100,000 samples"),
    Item("Figures 3.11 and 3.12", "topology and layers", "drawings; Network/models/uvnet.py names each layer, and "
         "43.7 M parameters agree with the thesis's"),
    Item("Figure 3.13 and 3.14", "a training sample and its loss", Context.curve, "seven L1 sums"),
    Item("Figure 3.15", "one image under each augmentation", sheet("steps")),
    Item("Figure 3.16", "generation of occluders", sheet("occlusion")),
    Item("Figure 3.17", "collage with all augmentations", sheet("all")),
    Item("Figure 3.18", "the same with its targets", sheet("augmented_triplets")),
    Item("Figure 3.19", "processes of the training software", "a drawing"),
    Item("Figures 3.20 to 3.23", "texture, inverse texture, grid lines, grid points",
         projection("texture", "inverse", "lines", "points")),
    Item("Figure 3.24", "result page", result_page, "mean of the last ten metrics, samples/s, parameters"),
    Item("Figure 3.25", "evaluation image of an epoch", lambda context: Made(context.epoch_images(2)),
         "17 images an epoch"),
    Item("Figures 4.1 and 4.2", "photos", rows_on_photo, "17 ms an image on a GTX 980, 750 ms on a CPU"),
    Item("Figure 4.3", "renders", on_renders, "over 8 million samples, 72 hours on a K40"),
    Item("Figure 4.4", "a frame of a video", on_video),
    Item("Figures A.4 to A.7", "shuffle, exposure and gamma, noise, occlusion",
         sheet("shuffle", "exposure_and_gamma", "noise", "occlusion")),
    Item("Figure A.8", "occlusion masks", sheet("masks"), "about equal amounts of black and white"))

PAPER = Paper("ronkainen", "Ronkainen 2017, Dense tracking of human facial geometry", "uvnet", "uvnet-small", steps,
              ITEMS, ["The thesis prints no table; its evaluation is by eye."])
