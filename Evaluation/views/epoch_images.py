"""The images of an epoch, in the run folder: RUN/epochs/NNNN/NAME.jpg, for the page of Evaluation/web/viewer.py.

Of any network: the caller passes (H, W, 3) uint8 BGR; `sample_images` draws what networks here give.
"""
from __future__ import annotations

import logging
import os
import re
from pathlib import Path
from typing import Any, Callable, Mapping, Sequence

import cv2
import numpy as np

from Dataset.io.images import write_image
from Dataset.representations.pncc import built_in_unit
from Dataset.representations.volume import sigmoid
from Evaluation.figures.sheet import contact_row, to_uint8
from Evaluation.figures.splat import Frame, render_cloud
from Evaluation.views.volume import front_image, outline

log = logging.getLogger(__name__)
MAX_NAMES, MAX_SIDE = 32, 1024      # images of an epoch; pixels
QUALITY = 85                        # of JPEG
TILE = 192                          # pixels of one view
NOT_PREDICTED = ("eroded",)                # maps of a batch that weight the loss and are no output
MAX_SIGMA = 0.1                         # of the UV square's side: a standard deviation that is drawn white
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._ -]{0,63}")


def save_epoch_images(run: str | os.PathLike[str], epoch: int, images: Mapping[str, np.ndarray],
                      quality: int = QUALITY) -> list[Path]:
    """Write RUN/epochs/NNNN/NAME.jpg, each aside and then renamed -> their paths.

    images  name -> (H, W, 3) uint8 BGR; what is larger than 1024 pixels is made smaller
    ValueError, before anything is written, for more than 32 of them or a name that is no plain file name.
    """
    if epoch < 0 or len(images) > MAX_NAMES:
        raise ValueError(f"{run}: an epoch, from 0 on, has at most {MAX_NAMES} images, got {len(images)} of {epoch}")
    for name in images:
        if not NAME.fullmatch(name):
            raise ValueError(f"{run}: an image's name has 1 to 64 letters, digits, '.', '_', '-' or spaces, "
                             f"got {name!r}")
    paths = []
    for name, image in images.items():
        paths.append(Path(run) / "epochs" / f"{epoch:04d}" / f"{name}.jpg")
        larger = max(image.shape[:2]) / MAX_SIDE
        if larger > 1:
            size = max(1, round(image.shape[1] / larger)), max(1, round(image.shape[0] / larger))
            image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        write_image(paths[-1], image, quality)
    return paths


class EpochImages:
    """A hook for the trainer: after an epoch, saves what `images()` gives. An image that fails is logged: it never
    ends a training. `every`: of so many epochs one."""

    def __init__(self, run: str | os.PathLike[str], images: Callable[[], Mapping[str, np.ndarray]],
                 every: int = 1) -> None:
        self._run, self._image_files, self._every = run, images, every

    def __call__(self, history: Sequence[Mapping[str, Any]]) -> None:
        """history: one mapping per finished epoch, the last one's "epoch" names the folder."""
        epoch = int(history[-1]["epoch"])
        if epoch % self._every and epoch != 1:
            return
        try:
            save_epoch_images(self._run, epoch, self._image_files())
        except Exception as error:      # cv2's and TensorFlow's errors, too: an image is not worth a training
            log.warning("no images of epoch %d: %s: %s", epoch, type(error).__name__, error)


def sample_images(batch: tuple[Any, Any], output: Any, count: int = 4) -> dict[str, np.ndarray]:
    """Images of the first `count` samples of a batch, for any network: those of `point_images` where it gives
    points, of `map_images` where it gives maps, of `volume_images` where it gives volumes, of `keypoint_images`
    where it gives keypoints.

    batch   (images, targets) of the training's loader: images BGR in [0, 1]; targets (B, N, 3), or a dict with
            "keypoints" (B, T, K, 2), or a dict of maps (B, H, W, C)
    output  of the network for the images: (B, N, 3), a dict with "keypoints", or (B, H, W, C) whose channels are the
            truth's maps (not those in NOT_PREDICTED), as many as there are, in their order; where uv is one of them,
            two more channels are the log-variance of u and v
    """
    images, targets = np.asarray(batch[0])[:count], batch[1]
    names = [f"sample {i + 1}" for i in range(len(images))]
    if not isinstance(targets, Mapping) and np.ndim(targets) == 2:        # coefficients
        pairs = zip(names, images, np.asarray(output)[:count], np.asarray(targets)[:count])
        return {name: contact_row(coefficient_tiles(*parts), TILE) for name, *parts in pairs}
    if isinstance(targets, Mapping) and "volume" in targets:
        logits = np.asarray(output["volume"] if isinstance(output, Mapping) else output)[:count]
        return volume_images(images, logits, np.asarray(targets["volume"])[:count], names)
    if isinstance(targets, Mapping) and "keypoints" in targets:
        return keypoint_images(images, *(np.asarray(part["keypoints"])[:count] for part in (output, targets)), names)
    if isinstance(targets, Mapping):
        maps, start, output = {}, 0, np.asarray(output)[:count]
        targets = {name: np.asarray(values)[:count] for name, values in targets.items()
                   if np.ndim(values) == 4 and name not in NOT_PREDICTED}
        for name, values in targets.items():
            if start + values.shape[-1] <= output.shape[-1]:
                maps[name] = output[..., start:start + values.shape[-1]]
                start += values.shape[-1]
        log_variance = output[..., start:] if "uv" in maps and output.shape[-1] == start + 2 else None
        return map_images(images, maps, targets, names, log_variance)
    return point_images(images, np.asarray(output)[:count], np.asarray(targets)[:count], names)


def map_images(images: np.ndarray, predictions: Mapping[str, np.ndarray], targets: Mapping[str, np.ndarray],
               names: Sequence[str], log_variance: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """One row per sample of a network that gives maps: the input, then truth and prediction of each map.

    Maps (B, H, W, 1) are grey, (B, H, W, 2) red and green, as in Ronkainen's figures; "depth" from -1 to 1, others from
    0 to 1; NaN is black. log_variance: log-variance (B, H, W, 2) of u and v, drawn last, where the predicted mask is,
    from black, certain, to white, a standard deviation of MAX_SIGMA. -> name: (212, 192 n, 3) uint8 BGR.
    """
    rows = {}
    for i, name in enumerate(names):
        tiles = [("input", _photo(images[i]))]
        for kind, values in predictions.items():
            low = -1.0 if kind == "depth" else 0.0
            for what, maps in (("truth", targets[kind]), ("prediction", values)):
                level = np.nan_to_num((np.asarray(maps[i], np.float64) - low) / (1.0 - low))
                if level.shape[-1] == 2:        # u in red, v in green: BGR
                    level = np.concatenate([np.zeros_like(level[..., :1]), level[..., ::-1]], axis=-1)
                tiles.append((f"{kind}: {what}", np.repeat(level, 3 // level.shape[-1], axis=-1)))
        if log_variance is not None:
            variance = np.exp(np.clip(log_variance[i], -30, 30).astype(np.float64)).mean(-1, keepdims=True)
            sigma = np.sqrt(variance) / MAX_SIGMA
            shown = np.clip(predictions["mask"][i], 0, 1) if "mask" in predictions else 1
            tiles.append(("uncertainty", np.repeat(np.minimum(sigma, 1) * shown, 3, axis=-1)))
        rows[name] = contact_row(tiles, TILE)
    return rows


def volume_images(images: np.ndarray, logits: np.ndarray, targets: np.ndarray, names: Sequence[str]
                  ) -> dict[str, np.ndarray]:
    """One row per sample of a network that gives volumes: the input with the outline of what the prediction fills,
    then the front surface of truth and prediction, lit.

    images (B, S, S, 3) BGR in [0, 1]; logits and targets (B, S, S, D) -> name: (212, 576, 3) uint8 BGR.
    """
    rows = {}
    for image, said, true, name in zip(images, logits, targets, names):
        values = sigmoid(said)
        tiles = [("input, outline", outline(image, values)), ("truth", front_image(true)),
                 ("prediction", front_image(values))]
        rows[name] = contact_row(tiles, TILE)
    return rows


def point_images(images: np.ndarray, predictions: np.ndarray, targets: np.ndarray, names: Sequence[str]
                 ) -> dict[str, np.ndarray]:
    """One row per sample of a network that gives points: input, truth and prediction from two sides.

    images (B, T, S, S, 3) BGR, uint8 or float in [0, 1] (the last of T is shown); predictions (B, N, 3) and targets
    (B, M, 3) in one frame, drawn at the target's position and scale -> name: (212, 960, 3) uint8 BGR.
    """
    rows = {}
    for photos, cloud, truth, name in zip(images, predictions, targets, names):
        frame, tiles = Frame.around(truth), [("input", _photo(photos))]
        for yaw in (0.0, 40.0):
            tiles += [(what, render_cloud(points, yaw, TILE, frame=frame))
                      for what, points in (("truth", truth), ("prediction", cloud))]
        rows[name] = contact_row(tiles, TILE)
    return rows


def keypoint_images(images: np.ndarray, predictions: np.ndarray, targets: np.ndarray, names: Sequence[str]
                    ) -> dict[str, np.ndarray]:
    """One row per sample of a network that gives keypoints: the last input, and the keypoints drawn on it.

    images (B, T, S, S, 3) BGR; predictions and targets (B, T, K, 2) in normalised coordinates of the crop -> name:
    (212, 576, 3) uint8 BGR.
    """
    rows = {}
    for photos, found, true, name in zip(images, predictions, targets, names):
        tiles = [("input", _photo(photos))]
        for what, keypoints in (("truth", true[-1]), ("prediction", found[-1])):
            tile = cv2.resize(to_uint8(_photo(photos)), (TILE, TILE))
            for x, y in np.rint(np.nan_to_num(keypoints, nan=-1.0) * TILE - 0.5).astype(int).clip(-TILE, 2 * TILE):
                cv2.circle(tile, (int(x), int(y)), 1, (80, 230, 80), -1, cv2.LINE_AA)
            tiles.append((what, tile))
        rows[name] = contact_row(tiles, TILE)
    return rows


def coefficient_tiles(images: np.ndarray, found: np.ndarray, truth: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Figure 3 of Endrawis 2018: of one sample the image, PNCC and normals of the estimate that the network was given,
    if any, (S, S, 9) or (S, S, 3) in [0, 1], and the normals of the target and of its answer, (290,) each -> named
    images (S, S, 3), BGR in [0, 1]."""
    unit, size = built_in_unit(), len(images)
    estimate = [("estimate: PNCC", images[..., 5:2:-1]), ("its normals", images[..., :5:-1])] \
        if images.shape[-1] > 3 else []
    return [("input", images[..., :3]), *estimate, ("truth", unit(truth, size)[..., :2:-1]),
            ("prediction", unit(found, size)[..., :2:-1])]


def _photo(images: np.ndarray) -> np.ndarray:
    return images[-1] if images.ndim == 4 else images
