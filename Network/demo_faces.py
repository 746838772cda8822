"""What demo.py makes of photos: the face that a stream sees, written as the command line says."""
from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from Dataset.camera import Camera
from Dataset.io.mesh_io import write_mesh
from Dataset.mesh import Mesh
from Dataset.pose import pose_numbers, weak_perspective
from Dataset.representations.depth import decode, decode_depth, guess_camera, large_parts, triangulate
from Dataset.representations.volume import LEVEL, save_volume
from Dataset.surface_reconstruction import PoissonOptions, depth_surface
from Dataset.transforms import to_unit_sphere
from Network.demo_options import FIT, VOLUME
from Network.grid import resample
from Network.loading import Loaded
from Network.predict import Crop, Prediction
from Network.results import Written, write_pose, write_result
from Network.streaming import make_stream
from Network.uvnet import read_maps
from Network.volume_fitted import sigmoid, surface_of as volume_surface


class DepthReading(NamedTuple):
    """A photo's depth (S, S) mm, NaN for none, its camera, both by a guess, and the photo (S, S, 3) uint8 BGR."""

    depth: np.ndarray
    camera: Camera
    image: np.ndarray


class DemoFaces:
    """`face = faces.add(crop)` photo by photo, then `faces.write(path)`.

    surface     of `demo_options.SURFACES`: "fit" the face model, as every network's face is written; of pix2pix also
                what its depth map of the last photo says: the coloured cloud, its triangles from pixel to pixel, or a
                Poisson surface, open or closed;
                of vrn its volume's own, and beside it NAME_volume.npz, `Dataset.representations.volume.save_volume`.
                These are turned as the photo shows them, and in the unit sphere
    expression  the fit with the expression of the last photo, not the neutral face
    iterations  of coarse: at most so many passes over a photo; 0: as it was trained for
    ValueError where the network says no such thing.
    """

    def __init__(self, loaded: Loaded, surface: str = FIT, expression: bool = False, iterations: int = 0) -> None:
        network, kind = ("vrn", "volume") if surface == VOLUME else ("pix2pix", "depth map")
        if surface != FIT and loaded.config.get("network") != network:
            raise ValueError(f"--surface {surface} is made of {network}'s {kind}; {loaded.source} is another network")
        self._loaded, self._surface, self._expression = loaded, surface, expression
        self._stream = make_stream(loaded, iterations)
        self._face: Prediction | None = None

    @property
    def alone(self) -> bool:
        """Whether what is written shows the last photo only, though there were others."""
        return self._surface != FIT and self._stream.count > 1

    def reset(self) -> None:
        """Forget everything: the next photo is another person's first."""
        self._stream.reset()
        self._face = None

    def add(self, crop: Crop) -> Prediction:
        """The face from this crop and all before it. NoFace, and nothing is kept of the crop, where there is none."""
        face = self._stream.add(crop)
        if self._expression and face.in_photo is None:
            raise ValueError(f"--expression: {self._loaded.source} makes neutral faces only; uvnet and pix2pix see the "
                             "expression")
        self._face = face
        return face

    def reading(self) -> Any:
        """What the network said of the last photo, for the views: uvnet's `Maps`, pix2pix's `DepthReading`,
        coarse's `Iterations`."""
        if self._loaded.config["network"] == "uvnet":
            return read_maps(self._stream.answer)
        if self._loaded.config["network"] == "coarse":
            return self._stream.last
        depth = large_parts(decode_depth(np.asarray(self._stream.answer, np.float32)))
        return DepthReading(depth, guess_camera(len(depth)), self._face.crops[-1].image)

    def pose(self) -> np.ndarray | None:
        """`Dataset.pose.pose_numbers` of the head in the last photo. Of a network that says only where the face's
        places lie they are the pose that shows them there: its face has no millimetres and no head about it, so that
        scale and origin are NaN. None where the network does not even say that."""
        known = getattr(self._stream, "pose", None)
        face = self._face
        if known is not None or face.places is None or self._loaded.order != "grid":
            return known
        points = resample(face.points if face.in_photo is None else face.in_photo, round(len(face.places) ** 0.5))
        turned = weak_perspective(points.astype(np.float64), face.places.astype(np.float64))
        return np.append(pose_numbers(turned, face.crops[-1].box, 1)[:3], [np.nan] * 3)

    def write(self, path: Path) -> Written:
        """Write the face as the ending of `path` says -> its mesh and the files' paths."""
        if self._surface == FIT:
            points, pose = self._face.in_photo if self._expression else self._face.points, self.pose()
            written = write_result(path, self._face._replace(points=points), self._loaded.order == "grid")
            if pose is not None:
                written.paths.append(write_pose(path, pose, self._face.crops[-1].source))
            return written
        if self._surface == VOLUME:
            mesh = volume_surface(self._stream.answer, self._face.crops[-1].image)
            mesh = mesh._replace(vertices=to_unit_sphere(mesh.vertices)[0])
        else:
            mesh = surface_of(self.reading(), self._surface)
        write_mesh(path, mesh)
        if self._surface == VOLUME:
            packed = path.with_name(f"{path.stem}_volume.npz")
            save_volume(packed, sigmoid(self._stream.answer) > LEVEL)
            return Written(mesh, [path, packed])
        return Written(mesh, [path])


def surface_of(reading: DepthReading, kind: str) -> Mesh:
    """The cloud ("points"), that with its triangles ("mesh") or Poisson surface ("poisson", "watertight") of a depth
    map, coloured by its photo, in the unit sphere. ValueError "no depth" where the map has none."""
    plain = {"points": decode, "mesh": triangulate}.get(kind)
    mesh = plain(*reading) if plain else depth_surface(*reading, PoissonOptions(watertight=kind == "watertight"))
    return mesh._replace(vertices=to_unit_sphere(mesh.vertices)[0])
