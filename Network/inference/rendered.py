"""A face in its pose, rendered over the crop: UV map, depth map, PNCC, normals and volume, on any resolution."""
from __future__ import annotations

import numpy as np

from Dataset.face_model.model import FaceModel, load_face_model
from Dataset.geometry.camera import FLIP, Camera
from Dataset.geometry.mesh import Mesh
from Dataset.geometry.pose import Pose
from Dataset.representations import coefficients, depth, uvmap, volume
from Dataset.representations.pncc import RenderingUnit, built_in_unit
from Network.inference.readings import DepthReading, Rendering, UVReading

FAR = 5e4       # mm: from so far away a pinhole camera shows a head as weak perspective does, to 0.3 % of its depth


def far_camera(pose: Pose, size: int) -> Camera:
    """A camera that sees the turned head (`vertices @ rotation.T`) as a weak perspective pose has it; pose in sides of
    the crop, size: px."""
    x, y = np.asarray(pose.translation, float) * size
    return Camera(size, size, float(pose.scale) * size * FAR, (float(x), float(y)), FLIP.copy(),
                  np.array([0.0, 0.0, FAR]))


def coefficients_of(identity: np.ndarray, expression: np.ndarray, pose: Pose) -> np.ndarray:
    """identity (200,), expression (84,), pose in crop sides -> (290,) float32, as `coarse` predicts them."""
    return np.concatenate([identity, expression, coefficients.encode_pose(pose, 1)]).astype(np.float32)


def render(vertices: np.ndarray, pose: Pose, image: np.ndarray, model: FaceModel | None = None,
           unit: RenderingUnit | None = None) -> Rendering:
    """What a crop shows of a face, everything before it (hair, glasses) ignored.

    vertices  (V, 3) mm, head frame, with expression; pose: in sides of the crop
    image     (S, S, 3) uint8 BGR, the crop
    """
    model, unit, size = model or load_face_model(), unit or built_in_unit(), len(image)
    camera, turned = far_camera(pose, size), np.asarray(vertices, float) @ pose.rotation.T
    seen = uvmap.encode(turned, camera, model=model)
    distance = depth.encode(Mesh(turned, model.triangles[uvmap.drawn_triangles(model)]), camera)
    drawn = unit.draw(np.asarray(vertices, np.float32).T, coefficients.encode_pose(pose, 1), size)
    return Rendering(UVReading(*seen), DepthReading(np.where(seen.mask, distance, np.float32(np.nan)), camera, image),
                     drawn[..., :3], drawn[..., 3:])


def rendered_volume(vertices: np.ndarray, pose: Pose, size: int, layers: int, model: FaceModel | None = None
                    ) -> np.ndarray:
    """The voxels (size, size, layers) bool that the face fills; arguments as `render`."""
    model = model or load_face_model()
    turned = np.asarray(vertices, float) @ pose.rotation.T
    return volume.encode(volume.solid(turned, model), far_camera(pose, size), layers)


def face_triangles(model: FaceModel) -> np.ndarray:
    """The triangles (F, 3) of the model that show the face: no ears, scalp, neck, lashes."""
    return model.triangles[uvmap.atlas(model).face != uvmap.NONE]
