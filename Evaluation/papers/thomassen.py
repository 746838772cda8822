"""Thomassen 2022: 3D Face Reconstruction Using Facial Image Sequences. System `convlstm`."""
from __future__ import annotations

from pathlib import Path

import numpy as np

from Dataset.detection.cascades import FRONTAL, detect_as_published, detect_faces
from Dataset.face_model.model import load_face_model
from Dataset.geometry.mesh import Mesh, clean
from Dataset.geometry.sampling import sample
from Dataset.io.archives.npz import read_npz
from Dataset.io.images import crop_resize, read_image, write_image
from Dataset.io.inputs import example_image
from Dataset.sources.subjects import read_points, subjects_of
from Evaluation.evaluate_predictions import prediction_evaluator
from Evaluation.figures.sheet import contact_row
from Evaluation.figures.splat import Frame, render_cloud
from Evaluation.icp import icp
from Evaluation.papers.plan import Context, Item, Made, Paper, Step, evaluation_shards, flags, shards

TILE = 200
POINTS = 2 ** 14
SIDE = 256              # px of the thesis's images
CLOSE = "test-close"    # test shards without a margin around the detector's box
#: of the subject folders
SUBJECTS = {
    "tiny": {"subjects": 6, "images": 4, "size": 32, "points": 256, "workers": 1},
    "small": {"subjects": 96, "images": 60, "size": 64, "points": 1024, "workers": 2},
    "paper": {"subjects": 96, "images": 600, "size": 256, "points": POINTS, "order": "random", "workers": 8}}
RUN = {
    "tiny": {"preset": "thesis", "image-size": 32, "points": 256, "lstm-filters": "4,4", "lstm-strides": "2,2",
             "block-filters": 4, "block-strides": 1, "block-expansion": 1, "block-repeats": 1, "no-squeeze": True,
             "link-filters": 4, "decoder-filters": "4,4", "images": 2, "epochs": 3, "repeats": 2, "learning-rate": 3e-3,
             "precision": "float32", "quiet": True},
    "small": {"preset": "convlstm-small"}, "paper": {"preset": "thesis"}}


def steps(scale: str, data: Path, run: Path) -> list[Step]:
    """Subject folders, shards of other subjects for the error against the number of images, and the training: at scale
    small on shards, as the bundled weights, at the others on the folders, as the thesis."""
    folders = data / "subjects"
    rendered = [Step(("Dataset.synthetic", str(folders), *flags({**SUBJECTS[scale], "seed": 3})))]
    if on_shards(scale):
        train, _, more = shards(scale, data, SIDE)
        rendered += more
    else:       # cut as closely as subject folders are
        train = folders
        rendered += [evaluation_shards(scale, data, SIDE, CLOSE, margin=1)[1]]
    return [*rendered, Step(("train.py", str(train), *flags(RUN[scale]), "--run", str(run), "--resume"), True)]


def on_shards(scale: str) -> bool:
    """Whether the network of a scale was trained on shards, not on the subject folders."""
    return scale == "small"


def network(context: Context) -> Made:
    """Table 1, of the published network, whatever the scale."""
    return Made(tables=[context.table("table1", "--table", 1)])


def found_face(context: Context) -> Made:
    """Figures 13 and 21: a photo, and the crop of the face that the thesis's cascade finds in it."""
    photo = example_image().image
    found = detect_as_published(photo, FRONTAL) or detect_faces(photo)
    if not found:
        raise ValueError("no face found in the example photo")
    crop = crop_resize(photo, found[0].box, 256)
    side = min(photo.shape[:2])
    path = context.file("face.png")
    write_image(path, contact_row([("photo", photo[:side, :side]), ("face found, 256 x 256", crop)], 256))
    return Made([path])


def examples(context: Context) -> Made:
    """Figures 18 and 19: images of subjects beside their one ground truth."""
    subjects = subjects_of(context.data / "subjects")["training"][:4]
    rows = []
    for subject in subjects:
        photos = [read_image(path) for path in subject.images[:4]]
        tiles = [(subject.name if not i else "", photo) for i, photo in enumerate(photos)]
        rows.append(contact_row([*tiles, ("ground truth", render_cloud(read_points(subject.ground_truth), 0, TILE))],
                                TILE))
    path = context.file("subjects.png")
    write_image(path, np.vstack(rows))
    return Made([path], text="rendered subjects: BU-4DFE is licensed; python -m Dataset.bu4dfe reads it.")


def clouds(context: Context) -> Made:
    """Figure 20: a scan with unreferenced vertices, the same without them, and 2^14 points drawn on it."""
    model, rng = load_face_model(), np.random.default_rng(0)
    low, high = model.mean.min(0) - 20, model.mean.max(0) + 20
    raw = Mesh(np.concatenate([model.mean, rng.uniform(low, high, (1500, 3))]), model.triangles)
    whole = clean(raw)
    points = sample(whole, POINTS, rng).points
    frame = Frame.around(raw.vertices)
    path = context.file("clouds.png")
    write_image(path, contact_row(
        [(f"{name}: {len(cloud):,} points", render_cloud(cloud, 20, 300, frame=frame))
         for name, cloud in (("raw", raw.vertices), ("referenced", whole.vertices), ("drawn", points))], 300))
    return Made([path], text="the built-in head stands for a scan, with 1,500 made stray vertices.")


def samples_of(context: Context, part: str) -> list[tuple[str, Path]]:
    """(name, its strip) of the first two subjects of a part, drawn by evaluate.py with the model of the training loss,
    as the thesis's; bundled weights are one model."""
    # the listing saves it only in an epoch whose validation loss is no better: a short run may have none
    checkpoint = "best_training" if (context.run / "best_training.keras").is_file() else "best_validation"
    folder = context.file(f"samples_{part}")
    if not folder.is_dir():
        context.command("evaluate.py", "--data", context.data / "subjects", "--model", context.model, "--subjects",
                        part, "--checkpoint", checkpoint, "--figures", folder, "--no-surface")
    found = [(path.stem.removesuffix("_strip"), path) for path in sorted(folder.glob("*_strip.png"))[:2]]
    if not found:
        raise ValueError(f"evaluate.py drew no {part} subject")
    return found


def pipeline(context: Context) -> Made:
    """Figure 23 by an example: images, prediction, ground truth, both as they are and after ICP, and the error."""
    name, strip = samples_of(context, "test")[0]
    numbers = read_npz(strip.with_name(f"{name}_points.npz"), names=("prediction", "truth"))
    found, truth = (np.asarray(numbers[key], float) for key in ("prediction", "truth"))
    frame, aligned = Frame.around(found, truth), icp(found, truth).transform.apply(found)
    colours = np.repeat(np.uint8([[210, 90, 40], [70, 110, 190]]), [len(found), len(truth)], axis=0)

    def both(cloud: np.ndarray) -> np.ndarray:
        return render_cloud(np.concatenate([cloud, truth]), 30, TILE, colours, frame)
    path = context.file("pipeline.png")
    write_image(path, contact_row([("prediction", render_cloud(found, 30, TILE, frame=frame)),
                                   ("ground truth", render_cloud(truth, 30, TILE, frame=frame)),
                                   ("both", both(found)), ("after ICP", both(aligned))], TILE))
    return Made([path], text=f"{name}: normalised mean error {prediction_evaluator()(found, truth):.4f}; prediction "
                "red, ground truth blue.")


def table2(context: Context) -> Made:
    """Table 2: both checkpoints on training and test subjects; of a network trained on shards the test subjects."""
    words = ("--data", context.data / "subjects", "--model", context.model)
    if on_shards(context.scale):
        return Made(tables=[context.table("table2", *words, "--no-surface")])
    return Made(tables=[context.table("table2", *words, "--table", 2, "--no-surface")])


def curve(context: Context) -> Made:
    """The error against the number of images, which the thesis leaves to further work."""
    name, orders = "test" if on_shards(context.scale) else CLOSE, 2 if context.scale == "tiny" else 20
    return Made(tables=[context.table("curve", "--data", context.test(SIDE, name), "--model", context.model, "--curve",
                                      "--orders", orders)])


def strips(part: str):
    """Figures 24 and 25 of a part of the subjects."""
    return lambda context: Made([path for _, path in samples_of(context, part)])


ITEMS = (
    Item("Figure 1", "suggested pipeline", "a drawing of the idea; figure 23 and Table 1 show it at work"),
    Item("Figures 2 to 12", "convolution, activations, pooling, residual, MobileNet and squeeze-and-excite blocks",
         "drawings of the background chapter, several of them other authors'"),
    Item("Figure 13", "a photo and the face found in it", found_face),
    Item("Figures 14 to 17", "networks of PRNet, of front and side images, of [13], of 3D-R2N2",
         "illustrations of other authors' papers"),
    Item("Table 1", "architecture", network, "43,359,947 parameters by its listing (the text prints none)"),
    Item("Figures 18 and 19", "images with their ground truth", examples, "BU-4DFE, 101 subjects, of whom 96 are used"),
    Item("Figure 20", "raw scan, referenced vertices, points for training", clouds, "2^14 points"),
    Item("Figure 21", "an image, and its face at 256 x 256", found_face),
    Item("Figure 22", "training and validation loss", Context.curve,
         "the validation loss is best after 2 to 5 epochs, the training loss keeps falling"),
    Item("Figure 23", "evaluation pipeline", pipeline, "8 images, prediction, ICP, normalised mean error"),
    Item("Table 2", "normalised mean error", table2, "training / validation model: 0.0034 / 0.0150 on training data, "
         "0.0258 / 0.0156 on test data"),
    Item("Figure 24", "subjects of the test set", strips("test"), "not very similar to the ground truth, or to faces"),
    Item("Figure 25", "subjects of the training set", strips("training"), "closely similar to the ground truth"),
    Item("Section 6.2.4", "error against the number of images", curve, "left to further work; 8 images were the "
         "most that its memory held"))


PAPER = Paper("thomassen", "Thomassen 2022, 3D Face Reconstruction Using Facial Image Sequences", "convlstm",
              "convlstm-small", steps, ITEMS,
              ["The thesis's numbers are from BU-4DFE, ours from rendered subjects: they do not compare one to one."])
