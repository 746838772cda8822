"""Jackson et al. 2017, by its review of 2018: Large Pose 3D Face Reconstruction ... Direct Volumetric CNN Regression.
System `vrn`: plain, guided and multitask."""
from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from Dataset.io.images import read_image, write_image
from Evaluation.papers.plan import Context, Item, Made, Paper, Step, evaluation_shards, flags, shards
from Evaluation.reports.tables import BASELINE, Table

SIDE = 192
ONE = "test-one"        # at scale tiny: equation (2) aligns the noise of an untrained network for half a minute
VARIANTS = {"tiny": ("plain", "multitask"), "small": ("plain", "guided", "multitask"),
            "paper": ("plain", "guided", "multitask")}
RUN = {
    "tiny": {"preset": "vrn-small", "image-size": 32, "layers": 36, "features": 8, "stem": "4,8", "head": 8,
             "landmark-features": 8, "depth": 1, "batch-size": 4, "batches": 6, "epochs": 1, "validation-subjects": 2,
             "precision": "float32", "quiet": True},
    "small": {"preset": "vrn-small"}, "paper": {"preset": "vrn"}}


def steps(scale: str, data: Path, run: Path) -> list[Step]:
    """Shards, and a training of each variant, at scale tiny of two; `run` is the plain one's."""
    train, _, rendered = shards(scale, data, SIDE)
    rendered += [evaluation_shards(scale, data, SIDE, ONE, subjects=1)[1]] if scale == "tiny" else []
    return [*rendered, *(Step(("train.py", str(train), *flags({**RUN[scale], "variant": variant}), "--run",
                               str(variant_run(run, variant)), "--resume"), True) for variant in VARIANTS[scale])]


def variant_run(run: Path, variant: str) -> Path:
    """The run folder of a variant."""
    return run if variant == "plain" else run.with_name(f"{run.name}-{variant}")


def models(context: Context) -> dict[str, str]:
    """Variant -> what evaluate.py takes; of bundled weights the one that is bundled."""
    if not context.run.is_dir():
        return {context.model: context.model}
    return {variant: str(variant_run(context.run, variant)) for variant in VARIANTS[context.scale]}


def settings(context: Context) -> Made:
    """The table of the training, from the run's own settings."""
    context.curve()
    config = json.loads((context.run / "config.json").read_text())
    train, model = config["train"], config["model"]
    size, layers = model["image_size"], model["layers"]
    rows = [("learning algorithm", "RMSProp", config["settings"]["optimizer"]),
            ("learning rate", "1e-4, from epoch 40 on 1e-5", f"{train['learning_rate']:g}, {train['schedule']}"),
            ("rotation", "-45 to 45 degrees", f"up to {config['data'].get('rotation', '-')} degrees"),
            ("translation", "-15 to 15 px of 192", f"up to {192 * config['data'].get('shift', 0):g} px of 192"),
            ("scale", "0.85 to 1.15", "{} to {}".format(*config["data"].get("scale", "--"))),
            ("mirrored", "20 %", f"{100 * config['data'].get('mirror', 0):g} %"),
            ("cost", "sigmoid cross entropy", "the same, equation (1)"),
            ("output", "192 x 192 x 200 voxels", f"{size} x {size} x {layers} voxels")]
    return Made([context.run / "loss.png"], [Table("Table 1: the training", ("what", "paper", "this run"), rows)])


def numbers(context: Context) -> Made:
    """Overlap, equation (2) and front error of each variant; its images are drawn for `side_by_side`."""
    tiny = context.scale == "tiny"
    test = context.test(SIDE, ONE if tiny else "test")
    found = {variant: context.table(f"volume-{variant}", "--data", test, "--model", model, "--maps", "--images",
                                    1 if tiny else 2, "--figures", context.file(f"volumes-{variant}"))
             for variant, model in models(context).items()}
    rows = [Table("Volumes", ("variant", *BASELINE), [(variant, *row) for variant, table in found.items()
                                                      for row in table.rows], next(iter(found.values())).notes)]
    return Made(tables=rows)


def side_by_side(context: Context) -> Made:
    """The same test images under each variant, one below the other: the review's "previous" and "actual"."""
    found = {variant: sorted(context.file(f"volumes-{variant}").glob("*.png")) for variant in models(context)}
    paths = []
    for number, images in enumerate(list(zip(*found.values()))[:3]):
        path = context.file(f"side_by_side-{number}.png")
        write_image(path, np.vstack([read_image(image) for image in images]))
        paths.append(path)
    if not paths:
        raise ValueError("no volumes were drawn: see the item above")
    return Made(paths, text=f"from above: {', '.join(found)}; input with outline, truth, prediction.")


def scan_images(context: Context) -> Made:
    """The review's "scan images": slices through the volume of a photo."""
    return Made([context.demo("photo", (), "--view", view, ends=view) for view in ("volume", "slices")])


ITEMS = (
    Item("General pipeline", "a photo becomes a volume, the volume a mesh", scan_images, "drawing"),
    Item("Proposed architectures", "plain, guided, multitask", "drawings; Network/models/vrn.py names each module, all "
         "three are trained here"),
    Item("Table 1", "training", settings),
    Item("Equations (1) and (2)", "error of the three variants", numbers, "the review prints no number, and the "
         "paper's own table is not among the documents"),
    Item("Previous results", "test images", side_by_side),
    Item("What we achieved", "previous and actual, side by side", side_by_side))

PAPER = Paper("jackson", "Jackson et al. 2017, Large Pose 3D Face Reconstruction from a Single Image via Direct "
              "Volumetric CNN Regression", "vrn", "vrn-small", steps, ITEMS,
              ["The document is a review of the paper in slides; its photos are not among the text."])
