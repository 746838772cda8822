"""Every network with weights in the box, as `evaluate.py --compare` judges them: the same pictures for all."""
from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, NamedTuple

import cv2
import numpy as np

from Network.in_photo import photo_reader
from Network.loading import Loaded, load_model, model_path, models_in_the_box, per_pixel
from Network.streaming import Graph

#: network -> how the photos of a person become one face
TOGETHER = {"convlstm": "its memory", "compact": "its memory",
            "uvnet": "what the places of all photos tell",
            "pix2pix": "mean of the fits to each depth map", "vrn": "mean of the fits to each volume",
            "coarse": "mean of the photos' identities"}


class Judged(NamedTuple):
    """A system. read: a picture (S, S, 3) float32 in [0, 1], of any side S -> the face that it shows (N, 3) or (M, 3)
    and its landmarks (68, 2) in the picture's sides, or None, and whether it sees a face; person: pictures (T, S, S, 3)
    -> one face (N, 3), unit sphere; points: N; parameters; size: bytes of its files; together: how a person is made;
    seed: of the people that it was trained on, None where nobody says; side: of its own input, px; config."""

    name: str
    read: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray | None, bool]]
    person: Callable[[np.ndarray], np.ndarray]
    points: int
    parameters: int
    size: int
    together: str
    seed: int | None
    side: int
    config: dict[str, Any]


def systems(margin: float, more: str | Path | None = None, checkpoint: str = "best_validation") -> list[Judged]:
    """Those in the box, then a run folder or model file, if one is named, with its `checkpoint`; margin: of the
    pictures' box, which one that was trained with another sees cut or widened. ValueError, naming the file, for one
    that cannot be loaded."""
    found = dict(models_in_the_box())
    if more is not None and model_path(more) not in found.values():
        name = Path(more).resolve().name
        found[name if name not in found else f"{name} (named)"] = Path(more)
    return [judged(name, load_model(path, checkpoint), margin) for name, path in found.items()]


def judged(name: str, loaded: Loaded, margin: float) -> Judged:
    """One loaded model as a system."""
    side, factor = loaded.image_size, loaded.config.get("model", {}).get("crop_margin", 1.0) / margin
    # graphs, as those of `photo_reader` are: what a photo costs alone and among others can be compared
    one, telling = photo_reader(loaded), loaded.telling and Graph(loaded.telling)
    graph = loaded._replace(model=Graph(loaded.model), telling=telling)

    def read(image: np.ndarray) -> tuple[np.ndarray, np.ndarray | None, bool]:
        points, landmarks, seen = one(fitted(image, side, factor))
        return points, None if landmarks is None else 0.5 + (landmarks - 0.5) * factor, seen

    def person(images: np.ndarray) -> np.ndarray:
        own = np.stack([fitted(image, side, factor) for image in images])
        if loaded.images:               # a fixed number of them: again from the first, or the first so many
            own = np.concatenate([own] * -(-loaded.images // len(own)))[:loaded.images]
        return graph.predict(own[None])[0]
    network = loaded.config.get("network", "")
    together = TOGETHER.get(network, "a fit of all photos" if per_pixel(loaded.config) else "the network itself")
    return Judged(name, read, person, loaded.points, loaded.model.count_params(), file_bytes(loaded.source), together,
                  loaded.config.get("shards", {}).get("seed"), side, loaded.config)


def fitted(image: np.ndarray, side: int, factor: float = 1.0) -> np.ndarray:
    """A picture (S, S, 3) as a network of another input sees it, (side, side, 3) float32: `factor` times as much about
    its middle, the rim repeated where it has no more, and stretched to [0, 1] again."""
    size = len(image)
    rim = round(size * (factor - 1) / 2)
    if rim > 0:
        image = cv2.copyMakeBorder(image, rim, rim, rim, rim, cv2.BORDER_REPLICATE)
    elif rim < 0:
        image = image[-rim:rim, -rim:rim]
    if len(image) != side:
        way = cv2.INTER_AREA if len(image) > side else cv2.INTER_LINEAR
        image = cv2.resize(np.ascontiguousarray(image), (side, side), interpolation=way)
    low, high = float(image.min()), float(image.max())
    return ((image - low) / max(high - low, 1e-6)).astype(np.float32)


def file_bytes(source: Path) -> int:
    """Of a model file, or of all files of a weight folder."""
    if source.is_file():
        return source.stat().st_size
    return sum(path.stat().st_size for path in source.glob("*") if path.is_file())
