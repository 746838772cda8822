"""Figures as PNG files. The only file that knows matplotlib, and only inside its functions.

Figures are made without pyplot: no global state, no display, no backend chosen for the caller. Photos come in as
OpenCV has them, (H, W, 3) uint8 BGR, and are converted to matplotlib's RGB here. Files are written atomically.
"""
from __future__ import annotations

import os
from typing import Any, Mapping, Sequence

import numpy as np

from Dataset.geometry.transforms import as_points
from Dataset.io.atomic import write_atomic
from Evaluation.figures.sheet import to_uint8
from Evaluation.figures.splat import Frame, render_cloud
from Evaluation.icp import icp
from Evaluation.metrics.distances import bounding_box_diagonal, point_distances

FRONT, THREE_QUARTER, PROFILE = 0.0, 40.0, 90.0     # yaw in degrees
VIEWS = {"front": FRONT, "three-quarter": THREE_QUARTER, "profile": PROFILE}
PIXELS = 420                                        # side of a rendered view
MAX_IMAGES = 8                                      # in the row of a strip
DPI = 110
GREY = (200, 200, 200)                              # RGB of a point without a value


def plot_losses(history: Sequence[Mapping[str, Any]], path: str | os.PathLike[str], training: str = "loss",
                validation: str = "val_loss") -> None:
    """Figure 22 of the thesis: training and validation loss per epoch, on a logarithmic axis.

    history: one mapping per epoch with "epoch" and the two named columns (numbers or their text, as csv.DictReader
    gives them; an empty or missing value leaves a gap). ValueError when there is no epoch.
    """
    if not history:
        raise ValueError(f"{path}: want at least one epoch to plot, got none")
    epochs = np.array([float(row["epoch"]) for row in history])
    figure = _figure(7.2, 4.4)
    axes = figure.add_subplot()
    for name, label, colour in ((training, "training", "#1f5fa8"), (validation, "validation", "#d1631c")):
        values = np.array([_number(row.get(name)) for row in history])
        seen = np.isfinite(values)
        if seen.any():
            axes.plot(epochs[seen], values[seen], color=colour, label=label, marker="o" if seen.sum() < 30 else None,
                      markersize=3.5, linewidth=1.6)
            best = int(np.nanargmin(np.where(seen, values, np.nan)))
            axes.plot(epochs[best], values[best], marker="*", markersize=12, color=colour, linestyle="none",
                      label=f"best {label}: {values[best]:.3g} (epoch {epochs[best]:g})")
    if any(_number(row.get(name)) > 0 for row in history for name in (training, validation)):
        axes.set_yscale("log")
    axes.set(xlabel="epoch", ylabel="loss", title="Loss per epoch")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(True, which="both", alpha=0.25)
    if axes.lines:
        axes.legend(frameon=False)
    _save(figure, path)


def plot_strip(images: Sequence[np.ndarray], prediction: np.ndarray, truth: np.ndarray, path: str | os.PathLike[str],
               title: str = "") -> None:
    """Figures 24 and 25: the input images above; prediction and ground truth below, from the front and three-quarter.

    images  at least one (H, W, 3) uint8 BGR, or float in [0, 1] as networks get them; the first 8 are shown
    prediction (N, 3), truth (M, 3) in the head frame, one unit; drawn as they are, at one scale
    """
    prediction, truth = as_points(prediction, "prediction"), as_points(truth, "ground truth")
    images = [to_rgb(image) for image in images[:MAX_IMAGES]]
    if not images:
        raise ValueError(f"{path}: want at least one image, got none")
    frame = Frame.around(prediction, truth)
    figure = _figure(10.0, 2.9 + 10.0 / max(4, len(images)))
    above, below = figure.subfigures(2, 1, height_ratios=[10.0 / max(4, len(images)), 2.9])
    if title:
        figure.suptitle(title)
    for i, image in enumerate(images):
        _show(above.add_subplot(1, max(4, len(images)), i + 1), image)
    views = [("prediction", prediction, yaw) for yaw in (FRONT, THREE_QUARTER)]
    views += [("ground truth", truth, yaw) for yaw in (FRONT, THREE_QUARTER)]
    for i, (name, cloud, yaw) in enumerate(views):
        image = render_cloud(cloud, yaw, PIXELS, frame=frame)
        _show(below.add_subplot(1, 4, i + 1), image[..., ::-1], name if yaw == FRONT else "")
    _save(figure, path)


def plot_error_map(prediction: np.ndarray, truth: np.ndarray, path: str | os.PathLike[str], ordered: bool = False,
                   title: str = "") -> None:
    """Heat map of the error of every predicted point, from three views, in % of the ground truth's diagonal.

    Aligned by rigid ICP without scale; the error is to the nearest true point, or, with `ordered`, to the point of
    equal index. The colour scale ends at the 98th percentile, which its label says.
    """
    prediction, truth = as_points(prediction, "prediction"), as_points(truth, "ground truth")
    result = icp(prediction, truth)
    aligned = result.transform.apply(prediction)
    errors = point_distances(aligned, truth) if ordered else result.distances
    errors = 100.0 * errors / bounding_box_diagonal(truth)
    pairs = "point of equal index" if ordered else "nearest true point"
    about = f"mean {errors.mean():.3f} %, median {np.median(errors):.3f} %, largest {errors.max():.3f} %"
    plot_heat_maps([("", aligned, errors)], path, f"distance to the {pairs}\n% of the diagonal",
                   f"{title + ': ' if title else ''}{about}")


def plot_heat_maps(rows: Sequence[tuple[str, np.ndarray, np.ndarray]], path: str | os.PathLike[str], unit: str,
                   title: str = "") -> None:
    """Clouds from three views, one a row, coloured by a value per point, on one scale.

    rows  name; (N, 3) points in the head frame; (N,) values from 0 on; a point without a value, NaN, is grey
    unit  label of the colour scale, which ends at the 98th percentile of all values, as the label says
    ValueError when there is no row, or no value.
    """
    values = [np.asarray(value, np.float64) for _, _, value in rows]
    known = np.concatenate([value[np.isfinite(value)] for value in values] or [np.zeros(0)])
    if not len(known):
        raise ValueError(f"{path}: want at least one value to draw, got none")
    top = max(float(np.quantile(known, 0.98)), 1e-9)

    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    scale, colours = Normalize(0.0, top), colormaps["turbo"]
    figure = _figure(11.0, 4.0 * len(rows))
    axes = figure.subplots(len(rows), len(VIEWS), squeeze=False)
    frame = Frame.around(*(cloud for _, cloud, _ in rows))
    for line, (name, cloud, _), value in zip(axes, rows, values):
        rgb = (255 * colours(scale(np.minimum(np.nan_to_num(value), top)))[:, :3]).round().astype(np.uint8)
        rgb[~np.isfinite(value)] = GREY
        for axis, (view, yaw) in zip(line, VIEWS.items()):
            _show(axis, render_cloud(cloud, yaw, PIXELS, rgb, frame, shade=False)[..., ::-1],
                  f"{name}, {view}" if name else view)
    bar = figure.colorbar(ScalarMappable(scale, colours), ax=list(axes.ravel()), extend="max", shrink=0.85, pad=0.02)
    bar.set_label(f"{unit} (98 % lie below {top:.3g})", fontsize=9)
    if title:
        figure.suptitle(title, fontsize=11)
    _save(figure, path)


def plot_sample(images: Sequence[np.ndarray], prediction: np.ndarray, truth: np.ndarray, stem: str,
                ordered: bool = False) -> None:
    """STEM_strip.png and STEM_error.png of one sample: `plot_strip` and `plot_error_map`."""
    title = os.path.basename(stem).replace("_", " ")
    plot_strip(images, prediction, truth, f"{stem}_strip.png", title)
    plot_error_map(prediction, truth, f"{stem}_error.png", ordered, title)


class FirstSamples:
    """Draws `plot_sample` for the first sample of every name, as STEM_name, and writes the clouds to
    STEM_name_points.npz: prediction (N, 3) and truth (M, 3) float32."""

    def __init__(self, stem: str, ordered: bool) -> None:
        self._stem, self._ordered = stem, ordered
        self._drawn: set[str] = set()

    def __call__(self, images: np.ndarray, clouds: np.ndarray, targets: np.ndarray, names: Sequence[str]) -> None:
        """A batch of samples, each array's first axis."""
        for image, cloud, truth, name in zip(images, clouds, targets, names):
            if name not in self._drawn:
                plot_sample(image, cloud, truth, f"{self._stem}_{name}", self._ordered)
                numbers = {"prediction": np.asarray(cloud, np.float32), "truth": np.asarray(truth, np.float32)}
                write_atomic(f"{self._stem}_{name}_points.npz", lambda path: np.savez_compressed(path, **numbers))
                self._drawn.add(name)


def plot_comparison(rows: Sequence[Sequence[Any]], path: str | os.PathLike[str]) -> None:
    """The common table as bars: error of this photo's face, of this subject, identification, and time.

    rows: name, error per photo (%), error per subject (%), genuine/impostor distance ratio, ms per photo, parameters,
    bytes. The first is the mean face, whose numbers are lines through the bars and which has no time. NaN is not drawn.
    ValueError when there is no other row.
    """
    if len(rows) < 2:
        raise ValueError(f"{path}: want the mean face and at least one system, got {len(rows)} rows")
    floor, systems = rows[0], rows[1:]
    figure = _figure(14.0, 1.7 + 0.5 * len(systems))
    names = [f"{row[0]}\n{row[5] / 1e6:.1f} M, {row[6] / 1e6:.1f} MB" for row in systems]
    titles = ("this photo's face:\nerror, %", "this subject:\nerror, %", "this subject:\ngenuine / impostor",
              "time:\nms per photo")
    for column, title in enumerate(titles, 1):
        axes = figure.add_subplot(1, 4, column)
        values, level = np.array([_number(row[column]) for row in systems]), _number(floor[column])
        seen = np.nan_to_num(values)
        timed = column == len(titles)
        axes.barh(range(len(systems)), seen, height=0.62,
                  color=["#d1631c" if not timed and value > level else "#1f5fa8" for value in seen])
        limit = float(max([*seen, 0.0 if timed else level]))
        for row, value in enumerate(values):
            inside = value > 0.25 * limit
            written = f"{value:.{0 if timed else 3}f}" if np.isfinite(value) else "-"
            axes.text(value if np.isfinite(value) else 0.0, row, f" {written} ",
                      va="center", ha="right" if inside else "left", color="white" if inside else "black", fontsize=9)
        if not timed:
            axes.axvline(level, color="#555555", linestyle="--", linewidth=1.2)
            axes.set_title(f"- - {floor[0]} {level:.3f}", fontsize=9, color="#555555", loc="right")
        axes.set(xlim=(0, 1.08 * limit or 1), ylim=(len(systems) - 0.5, -0.5), xlabel=title)
        axes.set_yticks(range(len(systems)), names if column == 1 else [""] * len(systems))
        axes.spines[["top", "right"]].set_visible(False)
    _save(figure, path)


def to_rgb(image: np.ndarray) -> np.ndarray:
    """(H, W, 3) BGR or (H, W) grey, uint8 or float in [0, 1] -> (H, W, 3) uint8 RGB. ValueError for other shapes."""
    image = np.asarray(image)
    if image.ndim == 2:
        image = np.repeat(image[:, :, None], 3, axis=2)
    if image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise ValueError(f"image: want (H, W, 3) BGR, got shape {image.shape}")
    return np.ascontiguousarray(to_uint8(image)[..., ::-1])


def _figure(width: float, height: float) -> Any:
    """A new figure of `width` x `height` inches; Agg draws it when it is saved."""
    from matplotlib.figure import Figure
    return Figure(figsize=(width, height), dpi=DPI, layout="constrained")


def _show(axes: Any, rgb: np.ndarray, title: str = "") -> None:
    axes.imshow(rgb)
    axes.set_axis_off()
    if title:
        axes.set_title(title, fontsize=10)


def _save(figure: Any, path: str | os.PathLike[str]) -> None:
    # no date and no version in the file: the same figure gives the same bytes
    write_atomic(path, lambda temporary: figure.savefig(temporary, format="png", metadata={"Software": None}))


def _number(value: Any) -> float:
    return float("nan") if value in (None, "") else float(value)
