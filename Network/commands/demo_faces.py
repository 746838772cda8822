"""What demo.py writes of photos: the face that a Predictor makes, or the surface that it sees in the last photo."""
from __future__ import annotations

from pathlib import Path

import numpy as np

from Dataset.geometry.mesh import Mesh
from Dataset.io.mesh_io import write_mesh
from Network.commands.demo_options import FIT, VOLUME
from Network.commands.results import MEAN_SIZE, Written, in_millimetres, volume_file, write_result
from Network.inference.base import Predictor
from Network.inference.readings import DepthReading

ASSUMED = "depth of an assumed camera"      # how the millimetres of a depth map are known


class FaceWriter:
    """`write(path)` writes what `predictor` knows.

    surface     of `demo_options.SURFACES`: "fit", the face; of a system with a depth map what that of the last photo
                shows: the coloured cloud, its triangles from pixel to pixel, or a Poisson surface, open or closed; of
                one with a volume its surface, and beside it NAME_volume.npz, `Dataset.representations.volume`.
                All but the face are turned as the photo shows them
    expression  True: the face with the expression of the last photo; False: the subject's neutral one; None: that of
                the photo after a single one, where the system knows it, else the neutral one
    All in mm, the centroid at the origin. ValueError where the system has no such thing.
    """

    def __init__(self, predictor: Predictor, surface: str = FIT, expression: bool | None = None) -> None:
        if surface not in predictor.surfaces:
            raise ValueError(f"--surface {surface} is not of {predictor.network} ({predictor.source}), which has "
                             f"{', '.join(predictor.surfaces)}")
        if expression and not predictor.has_photo_face:
            raise ValueError(f"--expression: {predictor.source} makes neutral faces only")
        self._predictor, self._surface, self._expression = predictor, surface, expression

    @property
    def shows_last_only(self) -> bool:
        """Whether what is written shows the last photo only, though there were others."""
        return self._surface != FIT and self._predictor.count > 1

    def write(self, path: Path) -> Written:
        """Write as the ending of `path` says -> the mesh and the files' paths. ValueError before the first photo."""
        face = self._predictor.face
        if face is None:
            raise ValueError("no face in any of the photos")
        if self._surface == FIT:
            single = self._predictor.count == 1
            return write_result(path, face, single if self._expression is None else self._expression)
        if self._surface != VOLUME:
            mesh = depth_mesh(self._predictor.depth_map(), self._surface)
            write_mesh(path, mesh, millimetres=ASSUMED)
            return Written(mesh, [path])
        from Dataset.representations.volume import LEVEL, save_volume

        values = self._predictor.volume()
        mesh, packed = volume_mesh(values, face.crop.image), volume_file(path)
        write_mesh(path, mesh, millimetres=MEAN_SIZE)
        save_volume(packed, np.asarray(values) > LEVEL)
        return Written(mesh, [path, packed])


def volume_mesh(values: np.ndarray, image: np.ndarray) -> Mesh:
    """The surface of a volume (S, S, D), coloured by its crop (S, S, 3) uint8 BGR, mm at the mean face's size."""
    from Dataset.geometry.transforms import to_unit_sphere
    from Network.inference.vrn import surface_of

    mesh = surface_of(values, image)
    return mesh._replace(vertices=in_millimetres(to_unit_sphere(mesh.vertices)[0]))


def depth_mesh(reading: DepthReading, kind: str) -> Mesh:
    """The cloud ("points"), that with its triangles ("mesh") or Poisson surface ("poisson", "watertight") of a depth
    map, coloured by its photo, mm, the centroid at the origin. ValueError "no depth" where the map has none."""
    from Dataset.fitting.surface_reconstruction import PoissonOptions, depth_surface
    from Dataset.representations.depth import decode, triangulate

    plain = {"points": decode, "mesh": triangulate}.get(kind)
    mesh = plain(*reading) if plain else depth_surface(*reading, PoissonOptions(watertight=kind == "watertight"))
    return mesh._replace(vertices=mesh.vertices - mesh.vertices.mean(axis=0))
