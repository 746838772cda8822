"""Baby et al. 2020: Face Depth Estimation and 3-D Reconstruction. System `pix2pix`."""
from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from Dataset.io.images import write_image
from Dataset.representations.depth import encode_depth, to_image
from Dataset.synthesis.shards import open_shards
from Evaluation.figures.sheet import contact_row
from Evaluation.papers.plan import Context, Item, Made, Paper, Step, flags, shards

SIDE, TILE = 256, 160
RUN = {
    "tiny": {"preset": "pix2pix-small", "image-size": 32, "filters": "4,8,8,8", "discriminator-filters": "4,8",
             "batch-size": 4, "batches": 12, "epochs": 2, "validation-subjects": 2, "precision": "float32",
             "quiet": True},
    "small": {"preset": "pix2pix-small"}, "paper": {"preset": "pix2pix"}}


def steps(scale: str, data: Path, run: Path) -> list[Step]:
    """Shards with depth, and the training."""
    train, _, rendered = shards(scale, data, SIDE)
    return [*rendered, Step(("train.py", str(train), *flags(RUN[scale]), "--run", str(run), "--resume"), True)]


def pairs(context: Context, count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """(image, depth image) (S, S, 3) uint8 BGR of the first subjects: near is bright, nothing is black."""
    data = open_shards(context.test(SIDE))
    found = []
    for subject in range(min(count, len(data))):
        image, depth, mask, camera = (data.gather(name, [subject], [0])[0]
                                      for name in ("images", "depth", "mask", "camera"))
        grey = to_image(encode_depth(np.where(mask, depth, np.nan).astype(np.float32), None, float(camera[0])))
        found.append((image, cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR)))
    return found


def database(context: Context) -> Made:
    """Figure 6: images and range images."""
    path = context.file("pairs.png")
    found = pairs(context, 4)
    write_image(path, np.vstack([contact_row([("image" if not i else "", pair[i]) if not i else ("depth", pair[i])
                                              for pair in found], TILE) for i in (0, 1)]))
    return Made([path], text="rendered pairs; python -m Dataset.texas3d reads the database itself.")


def preprocessed(context: Context) -> Made:
    """Figure 7: image and depth as one image, resized to 286/256 of the side, cropped at random, mirrored."""
    image, depth = pairs(context, 1)[0]
    side, rng = len(image), np.random.default_rng(0)
    large = round(side * 286 / 256)
    both = [cv2.resize(values, (large, large), interpolation=cv2.INTER_NEAREST) for values in (image, depth)]
    tiles = [("image", image), ("depth", depth)]
    for flip in (False, True):
        x, y = rng.integers(0, large - side + 1, 2)
        cut = [values[y:y + side, x:x + side] for values in both]
        tiles += [(f"{'mirrored ' if flip else ''}crop", values[:, ::-1] if flip else values) for values in cut]
    path = context.file("preprocessed.png")
    write_image(path, contact_row([(name, np.ascontiguousarray(values)) for name, values in tiles], TILE))
    return Made([path])


def reconstruction(context: Context) -> Made:
    """Figure 9: photo, depth, cloud, wireframe and Poisson surface."""
    return Made([context.demo("photo", (), "--view", "strip", ends="strip")])


def numbers(context: Context) -> Made:
    """Depth of the test images beside a constant baseline."""
    folder = context.file("depth")
    table = context.table("depth_table", "--data", context.test(SIDE), "--model", context.model, "--maps",
                          "--images", 2, "--figures", folder)
    return Made(sorted(folder.glob("*.png")), [table])


ITEMS = (
    Item("Figures 1 to 5", "the conditional GAN, generator, U-Net, discriminator, PatchGAN",
         "drawings; Network/models/pix2pix.py names each layer (54,425,859 and 2,770,433 parameters in pix2pix's "
         "tutorial, which the paper follows)"),
    Item("Figure 6", "the database", database, "Texas 3D: 116 people; 919 pairs train, 230 test"),
    Item("Figure 7", "preprocessed pairs", preprocessed, "286 x 286, cropped to 256 x 256, mirrored at random"),
    Item("Figure 8", "user interface", "a window of the kivy library; ours is the page of demo.py --serve "
         "(docs/img/serve.png)"),
    Item("Section IV.E", "training", Context.curve, "90 epochs; lambda 100"),
    Item("Section V", "depth of test images", numbers, "no number; irregular after 1 to 3 epochs, like the database's "
         "after more"),
    Item("Figure 9", "2-D image and 3-D representation", reconstruction))

PAPER = Paper("baby", "Baby et al. 2020, Face Depth Estimation and 3-D Reconstruction", "pix2pix", "pix2pix-small",
              steps, ITEMS, ["The paper prints no error; its evaluation is by eye."])
