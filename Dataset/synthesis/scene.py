"""Rendering of one subject in one image: random settings and the renderer.

A :class:`View` has all settings of an image. With the subject's identity and :class:`Dataset.synthesis.skin.Appearance`
it determines every pixel, so that an image can be rendered again from a sidecar. The face is rendered twice: in a small
image for the detector, then with the camera of the crop, one ray per pixel and more at edges, so that a crop is never
resampled.
"""
from functools import cached_property
from typing import NamedTuple

import cv2
import numpy as np

from Dataset.geometry.camera import Camera, look_at_face
from Dataset.geometry.normals import normalise, vertex_normals
from Dataset.geometry.transforms import rotation_from_euler
from Dataset.rendering import shading
from Dataset.rendering.raycast import Hits, Scene
from Dataset.synthesis import hair_and_clothes as outfit, photographed_skin as skins, skin
from Dataset.synthesis.background import backdrop
from Dataset.synthesis.chart import Chart, sample_texture
from Dataset.synthesis.glasses import CLEAR, DARK, NONE, Glasses, make_glasses
from Dataset.synthesis.hair_and_clothes import CLOTH, EYE, FRAME, HAIR, LENS, MOUTH, SKIN, SOCKET, TEETH, TONGUE

VIEW = 144              # side of the detector's image, px
_HEAD_FRACTION = 0.56      # of it that a head of 230 mm spans
_WRAP = np.array([0.06, 0.12, 0.28], np.float32)     # red light scatters farthest under skin
_SPLIT = 4              # rays for a pixel on an edge


class View(NamedTuple):
    """One image. expression: (84,) float32 weights; pose: (6,) float32 yaw, pitch, roll in degrees and
    x, y, z in mm; distance: of the camera, mm; focal: of the detector's image, px; light_direction
    (3,), light_colour (3,), light_ambient (9, 3): a :class:`Dataset.rendering.shading.Light`, float32; gain: (3,)
    BGR colour cast of the camera; contrast, grain: of the camera; torso: yaw of the shoulders, degrees;
    seed: of background, grain and the glasses' shape; clutter: of the background, 0 a plain wall to 1;
    glasses: a kind of :mod:`Dataset.synthesis.glasses`, 0 none."""
    expression: np.ndarray
    pose: np.ndarray
    distance: np.float32
    focal: np.float32
    light_direction: np.ndarray
    light_colour: np.ndarray
    light_ambient: np.ndarray
    gain: np.ndarray
    contrast: np.float32
    grain: np.float32
    torso: np.float32
    seed: int
    clutter: np.float32 = np.float32(0)
    glasses: int = NONE


class Range(NamedTuple):
    """Largest absolute yaw, pitch and roll in degrees."""
    yaw: float = 45.0
    pitch: float = 20.0
    roll: float = 15.0


def sample_view(rng: np.random.Generator, expression: np.ndarray, limits: Range = Range(),
                angles: np.ndarray | None = None) -> View:
    """Random settings of an image: uniform pose (or these angles, (3,) degrees), a camera at 0.4 to 1.6 m, soft
    near-white light, a plain background; :func:`roughen` adds variation."""
    angles = rng.uniform(-1, 1, 3) * limits if angles is None else np.asarray(angles, np.float64)
    distance = float(np.exp(rng.uniform(np.log(400), np.log(1600))))
    focal = _HEAD_FRACTION * VIEW * distance / 230 * rng.uniform(0.92, 1.08)
    shift = np.array([*rng.uniform(-8, 8, 2), 0])
    azimuth, height = np.radians(rng.uniform(-75, 75)), np.radians(rng.uniform(-5, 60))
    direction = np.array([np.sin(azimuth) * np.cos(height), np.sin(height), np.cos(azimuth) * np.cos(height)])
    white = 1 + rng.normal(0, 0.03, 3)
    balance = rng.uniform(0.25, 0.7)             # lamp relative to environment
    level = rng.uniform(0.85, 1.2)
    ambient = np.zeros((9, 3))
    ambient[0] = 1 / 0.282095
    ambient[1:4, :] = rng.normal(0, [[0.7], [0.5], [0.7]]) + [[0.5], [0.5], [0.0]]
    ambient[4:, :] = rng.normal(0, 0.25, (5, 1))
    ambient = ambient * (1 + rng.normal(0, 0.03, (9, 3)))
    f32 = np.float32
    return View(np.asarray(expression, f32), np.array([*angles, *shift], f32), f32(distance), f32(focal),
                direction.astype(f32), (white * balance * level * 1.25).astype(f32),
                (ambient * (1 - balance) * level * 1.15).astype(f32),
                np.clip(1 + rng.normal(0, 0.03, 3), 0.9, 1.1).astype(f32), f32(rng.uniform(0, 0.35)),
                f32(rng.uniform(0.3, 2.2)), f32(0.4 * angles[0] + rng.normal(0, 6)), int(rng.integers(2**31)))


def roughen(view: View, rng: np.random.Generator, clutter: float, glasses: float) -> View:
    """The settings with a cluttered background (with probability ``clutter``), warmer or cooler light of more varied
    strength, and glasses (with probability ``glasses``, one pair in four dark)."""
    clutter_draw, glasses_draw = rng.random(), rng.random()
    warm = np.exp(rng.normal(0, 0.07) * np.array([-1, 0, 1]))
    fill = np.exp(rng.normal(0, 0.12) * np.array([-1, 0, 1]))
    level = np.exp(rng.normal(-0.1, 0.3))
    amount, kind = rng.uniform(0.1, 1), DARK if rng.random() < 0.25 else CLEAR
    return view._replace(clutter=np.float32(amount if clutter_draw < clutter else 0),
                         glasses=kind if glasses_draw < glasses else NONE,
                         light_colour=(view.light_colour * warm * level).astype(np.float32),
                         light_ambient=(view.light_ambient * fill * level).astype(np.float32))


class RenderContext:
    """What all images of one face model have in common: chart, scalp, materials and ambient occlusion.

    Args: model: a :class:`Dataset.face_model.model.FaceModel`; threads: for rays, 1 in worker processes.
    """

    def __init__(self, model, threads: int = 0):
        self.model, self.threads = model, threads
        mean = np.asarray(model.mean, np.float64)
        materials = head_materials(model)
        drawn = materials >= 0
        self.numbers = np.flatnonzero(drawn)        # of the model's triangles
        self.mean, self.triangles, self.materials = mean, np.asarray(model.triangles)[drawn], materials[drawn]
        self.chart = Chart(model.landmarks(mean), mean[:, 1].min() - 20, mean[:, 1].max() + 12)
        self.ears = ears = vertex_mask(model, "ears")
        self.shell = outfit.find_shell(mean, self.triangles, self.materials, self.chart, ears)
        self.positions = mean.copy()       # on the chart; ears lie in front of the hair, and are mapped below it
        low = self.chart.landmarks[31:36, 1].mean() - 8
        self.positions[ears, 1] = low + 0.1 * (mean[ears, 1] - low)
        self.eyes = _eyes(mean, self.triangles[self.materials == EYE])
        self.teeth_front = float(mean[self.triangles[self.materials == TEETH], 2].max())
        normals = vertex_normals(mean, self.triangles)
        self.ambient_occlusion = shading.ambient_occlusion(Scene(mean, self.triangles, threads), mean, normals)
        inside = np.unique(self.triangles[np.isin(self.materials, (MOUTH, TEETH, TONGUE))])
        skin_vertices = np.unique(self.triangles[self.materials == SKIN])
        self.ambient_occlusion[np.setdiff1d(inside, skin_vertices)] = 0.3     # closed in the mean, open in images
        self.ambient_occlusion[np.unique(self.triangles[self.materials == TEETH])] = 0.5

    @cached_property
    def skins(self) -> skins.Skins:
        """The built-in photographed skins on the chart: 0.25 s and 17 MB, loaded when needed."""
        return skins.unroll(skins.load_skins(), self.chart, self.model, self.ears)


class SceneSubject:
    """One subject in a render context: textures and hair are made once, images rendered from them.

    Args: context; identity: (200,) standard deviations; appearance: :class:`Dataset.synthesis.skin.Appearance`;
    photographed: fraction of the subjects with photographed skin (`Dataset.synthesis.photographed_skin.sample_base`).
    """

    def __init__(self, context: RenderContext, identity: np.ndarray, appearance: skin.Appearance,
                 photographed: float = 0.0):
        self.context, self.identity, self.appearance = context, np.asarray(identity, np.float32), appearance
        base = skins.sample_base(context.skins, appearance, photographed) if photographed else None
        self.tone = base.tone if base else skin.melanin_colour(appearance.melanin)
        self.texture = skin.skin_texture(context.chart, appearance, base)
        self.strands = skin.hair_strands(np.random.default_rng([appearance.seed, 2]))[..., None]
        self.outfit = outfit.dress(context.shell, context.mean, context.chart, appearance)
        self.triangles = np.concatenate([context.triangles, self.outfit.triangles])
        self.materials = np.concatenate([context.materials, self.outfit.materials])
        positions = np.concatenate([context.positions, self.outfit.positions])
        ambient_occlusion = np.concatenate([context.ambient_occlusion, np.ones(len(self.outfit.positions))])
        self.attributes = np.concatenate([positions, ambient_occlusion[:, None]], 1).astype(np.float32)

    def head(self, view: View) -> np.ndarray:
        """The model's vertices (V, 3) in an image's world: identity, expression, pose; mm, float64."""
        head = self.context.model.shape(self.identity, view.expression)
        return pose_vertices(head, view.pose)

    def material(self, positions: np.ndarray, kinds: np.ndarray) -> shading.Material:
        """Colours and gloss of N surface points from their positions (N, 3) on the mean face and materials
        (N,)."""
        appearance = self.appearance
        texels = self.context.chart.texels(positions)
        albedo = sample_texture(self.texture, texels)
        specular = np.full(len(kinds), 0.010 + 0.022 * appearance.oil, np.float32)
        shininess = np.full(len(kinds), 14.0, np.float32)
        flesh = self.tone * (0.55, 0.5, 0.75)
        enamel = (0.36 + 0.24 * appearance.teeth, 0.54 + 0.14 * appearance.teeth, 0.65 + 0.08 * appearance.teeth)
        flat = {SOCKET: flesh, MOUTH: (0.05, 0.05, 0.22), TONGUE: (0.14, 0.14, 0.38), TEETH: enamel,
                CLOTH: appearance.cloth}
        for kind, colour in flat.items():
            albedo[kinds == kind] = colour
        teeth = kinds == TEETH      # darker towards the back
        front = self.context.teeth_front
        albedo[teeth] *= np.clip((positions[teeth, 2:] - front + 30) / 24, 0.1, 1)
        hair = kinds == HAIR
        albedo[hair] = skin.hair_colour(appearance) * sample_texture(self.strands, texels[hair])
        specular[hair], shininess[hair] = 0.007, 12
        eye = kinds == EYE
        offsets = positions[eye][:, None] - self.context.eyes
        nearest = np.where(positions[eye][:, :1] < 0, offsets[:, 0], offsets[:, 1])
        albedo[eye] = skin.eye_albedo(normalise(nearest), appearance)
        specular[eye], shininess[eye] = 0.09, 150
        specular[kinds == CLOTH] = 0
        accessories = kinds >= FRAME           # glasses have colours instead of positions
        albedo[accessories] = positions[accessories]
        specular[kinds == FRAME], shininess[kinds == FRAME] = 0.03, 40
        specular[kinds == LENS], shininess[kinds == LENS] = 0.05, 200
        return shading.Material(albedo, specular, shininess, _WRAP)

    def set(self, view: View) -> "PosedScene":
        """The posed scene of one view."""
        model, context = self.context.model, self.context
        head = np.asarray(model.shape(self.identity, view.expression), np.float64)
        rotation = rotation_from_euler(*(float(a) for a in view.pose[:3]))
        translation = view.pose[3:].astype(np.float64)
        local = vertex_normals(head, context.triangles)
        extra = outfit.extra_vertices(self.outfit, head, local, rotation, translation,
                                      rotation_from_euler(float(view.torso), 0.0, 0.0))
        own = vertex_normals(extra, self.outfit.triangles - len(head))     # shares no vertex with the head
        glasses = None
        if view.glasses != NONE:
            rng = np.random.default_rng([view.seed, 3])
            glasses = make_glasses(model.landmarks(head), int(view.glasses), rng)
            glasses = glasses._replace(vertices=glasses.vertices @ rotation.T + translation,
                                       normals=glasses.normals @ rotation.T)
        return PosedScene(self, view, np.concatenate([head @ rotation.T + translation, extra]),
                          np.concatenate([local @ rotation.T, own]).astype(np.float32), glasses)


def pose_vertices(vertices: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """Head-frame vertices (V, 3) transformed by a pose (6,): yaw, pitch, roll in degrees, x, y, z in
    mm."""
    rotation = rotation_from_euler(*(float(a) for a in pose[:3]))
    return np.asarray(vertices, np.float64) @ rotation.T + np.asarray(pose[3:], np.float64)


def view_camera(view: View) -> Camera:
    """The camera of the detector's image, (VIEW, VIEW)."""
    return look_at_face(VIEW, float(view.distance), float(view.focal))


class PosedScene:
    """The geometry of a subject in one view; :meth:`render` may be called for several cameras.

    triangles, materials, numbers: what is drawn; numbers are the model's triangles, -1 for hair, clothes and glasses.
    vertices, normals: (V, 3) in the world, the model's first.
    """

    def __init__(self, scene_subject: SceneSubject, view: View, vertices: np.ndarray, normals: np.ndarray,
                 glasses: Glasses | None = None):
        self.scene_subject, self.view, self.vertices, self.normals = scene_subject, view, vertices, normals
        drawn = ~self._inside_out()
        numbers = np.full(len(scene_subject.triangles), -1)
        numbers[:len(scene_subject.context.numbers)] = scene_subject.context.numbers
        self.triangles, self.materials = scene_subject.triangles[drawn], scene_subject.materials[drawn]
        self.numbers = numbers[drawn]
        self.attributes = np.concatenate([scene_subject.attributes, normals], axis=1)
        if glasses:
            self.triangles = np.concatenate([self.triangles, glasses.triangles + len(vertices)])
            self.materials = np.concatenate([self.materials, np.where(glasses.lens, LENS, FRAME)])
            self.numbers = np.concatenate([self.numbers, np.full(len(glasses.triangles), -1)])
            self.vertices = np.concatenate([vertices, glasses.vertices])
            self.normals = np.concatenate([normals, glasses.normals.astype(np.float32)])
            self.attributes = np.concatenate([self.attributes, np.concatenate(
                [glasses.colours, np.ones((len(glasses.colours), 1)), glasses.normals], 1).astype(np.float32)])
        self.light = shading.Light(view.light_direction, view.light_colour, view.light_ambient)
        self.backdrop = backdrop(VIEW, np.random.default_rng([view.seed, 0]), float(view.clutter))
        self.scene = Scene(self.vertices, self.triangles, scene_subject.context.threads)

    def render(self, camera: Camera, smooth: bool = True, hits: Hits | None = None) -> np.ndarray:
        """The image (height, width, 3) uint8 BGR. smooth: more rays where a pixel has an edge; hits: the
        result of `scene.cast(camera)`, if known."""
        rays = camera.rays()
        hits = self.scene.cast_rays(rays.origin, rays.directions) if hits is None else hits
        behind = self._behind(camera)
        linear = behind.copy()
        seen = hits.triangle >= 0
        first = Hits(*(h[seen] for h in hits))
        lit = self._lit(first, rays.origin, rays.directions[seen], seen)
        linear[seen] = self._shade(first, rays.origin, rays.directions[seen], lit[seen])
        if smooth:
            self._smooth(camera, hits, linear, behind, lit)
        grain = np.random.default_rng([self.view.seed, 1]).normal(0, 1, (*linear.shape[:2], 1)).astype(np.float32)
        image = shading.to_bgr8(linear * self.view.gain, float(self.view.contrast))
        return np.clip(np.rint(image + self.view.grain * grain), 0, 255).astype(np.uint8)

    def _inside_out(self) -> np.ndarray:
        """Triangles (F,) of the mouth's inside seen from the back: a wide open jaw pushes some through a cheek."""
        scene_subject = self.scene_subject
        lining = np.flatnonzero(np.isin(scene_subject.materials, (MOUTH, TEETH)))
        a, b, c = np.moveaxis(self.vertices[scene_subject.triangles[lining]], 1, 0)
        away = np.einsum("ij,ij->i", np.cross(b - a, c - a), view_camera(self.view).position() - a) < 0
        hidden = np.zeros(len(scene_subject.triangles), bool)
        hidden[lining[away]] = True
        return hidden

    def landmarks(self) -> np.ndarray:
        """The 68 landmarks (68, 3) in the world, mm."""
        model = self.scene_subject.context.model
        return model.landmarks(self.vertices[:len(model.mean)])

    def _behind(self, camera: Camera) -> np.ndarray:
        """The backdrop as this camera sees it: one image, fixed to the detector's view."""
        whole = view_camera(self.view)
        scale = whole.focal / camera.focal
        matrix = np.array([[scale, 0, whole.centre[0] - camera.centre[0] * scale + 0.5 * scale - 0.5],
                           [0, scale, whole.centre[1] - camera.centre[1] * scale + 0.5 * scale - 0.5]])
        return cv2.warpAffine(self.backdrop, matrix, (camera.width, camera.height),
                              flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE)

    def _lit(self, hits: Hits, origin: np.ndarray, directions: np.ndarray, seen: np.ndarray) -> np.ndarray:
        """How much of the lamp each pixel (H, W) sees, float32, softened over its neighbours (a lamp is not a point)
        and 1 where nothing is hit; hits: those of the pixels in the mask ``seen``."""
        corners = self.triangles[hits.triangle]
        normals = normalise(sum(self.normals[corners[:, k]] * hits.barycentric[:, k:k + 1] for k in range(3)))
        shade = np.ones(len(normals), np.float32)       # surfaces that face away are dark by their shading
        facing = normals @ self.light.direction > 0
        points = (origin + directions[facing] * hits.depth[facing, None]).astype(np.float32)
        shade[facing] = shading.shadow(self.scene, points, normals[facing], self.light.direction, lift=1.0)
        out = np.ones(seen.shape, np.float32)
        out[seen] = _soften(shade, seen)
        return out

    def _shade(self, hits: Hits, origin: np.ndarray, directions: np.ndarray, lit: np.ndarray) -> np.ndarray:
        """Linear BGR (N, 3) of N hits; lit: how much of the lamp each sees (N,)."""
        scene_subject = self.scene_subject
        corners = self.triangles[hits.triangle]
        values = sum(self.attributes[corners[:, k]] * hits.barycentric[:, k:k + 1] for k in range(3))
        positions, open_sky, normals = values[:, :3], values[:, 3], normalise(values[:, 4:])
        directions = directions.astype(np.float32)
        to_eye = -normalise(directions)
        away = np.einsum("ij,ij->i", normals, to_eye) < 0
        material_of = self.materials[hits.triangle]
        two_sided = (material_of == HAIR) | (material_of == LENS)
        normals = np.where((away & two_sided)[:, None], -normals, normals)
        points = (origin + directions * hits.depth[:, None]).astype(np.float32)
        eye = np.flatnonzero(material_of == EYE)
        dim = self._below_lid(points[eye])
        lit = lit.copy()
        lit[eye] *= dim
        open_sky[eye] *= dim
        material = scene_subject.material(positions, material_of)
        return shading.shade(normals, to_eye, material, self.light, lit, open_sky)

    def _below_lid(self, points: np.ndarray) -> np.ndarray:
        """How much light reaches eyeball points (N, 3): (N,) float32; the upper lid and its lashes cast a shadow."""
        pose = self.view.pose
        rotation = rotation_from_euler(*(float(a) for a in pose[:3]))
        marks = (self.landmarks() - pose[3:]) @ rotation
        x, y, _ = np.moveaxis((points - pose[3:]) @ rotation, -1, 0)
        right, left = (np.interp(x, marks[ring, 0], marks[ring, 1]) for ring in (slice(36, 40), slice(42, 46)))
        lid = np.where(x < 0, right, left)
        return (1 - 0.6 * np.exp(-np.maximum(lid - y, 0) / 2.5)).astype(np.float32)

    def _smooth(self, camera: Camera, hits: Hits, linear: np.ndarray, behind: np.ndarray, lit: np.ndarray) -> None:
        """Average _SPLIT rays in the pixels whose neighbour shows another material or is much deeper, in place;
        they share the shadow of the pixel (lit)."""
        kind = np.where(hits.triangle >= 0, self.materials[hits.triangle], -1).astype(np.float32)
        depth = np.where(hits.triangle >= 0, hits.depth, 1e4)
        ring = np.ones((3, 3), np.uint8)
        edge = cv2.dilate(kind, ring) != cv2.erode(kind, ring)
        edge |= cv2.dilate(depth, ring) - cv2.erode(depth, ring) > 12
        y, x = np.nonzero(edge)
        if len(y) == 0:
            return
        offsets = np.array([[0.375, 0.125], [0.875, 0.375], [0.125, 0.625], [0.625, 0.875]])     # a rotated grid
        rays = camera.rays(np.stack([x, y], -1)[:, None] + offsets)
        hits = self.scene.cast_rays(rays.origin, rays.directions)
        seen = hits.triangle >= 0
        colours = np.repeat(behind[y, x][:, None], _SPLIT, 1)
        shade = np.repeat(lit[y, x][:, None], _SPLIT, 1)[seen]
        colours[seen] = self._shade(Hits(*(h[seen] for h in hits)), rays.origin, rays.directions[seen], shade)
        linear[y, x] = colours.mean(1)


def _soften(lit: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Blur a 0/1 shadow over the pixels of an image: a lamp is not a point."""
    image, weight = np.zeros(seen.shape, np.float32), seen.astype(np.float32)
    image[seen] = lit
    sigma = seen.shape[0] / 80
    blurred = cv2.GaussianBlur(image, (0, 0), sigma) / np.maximum(cv2.GaussianBlur(weight, (0, 0), sigma), 1e-3)
    return blurred[seen]


def _eyes(mean: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Centres (2, 3) of the mean face's eyeballs, right (x < 0) and left, mm."""
    vertices = mean[np.unique(triangles)]
    return np.stack([(vertices[side].min(0) + vertices[side].max(0)) / 2
                     for side in (vertices[:, 0] < 0, vertices[:, 0] > 0)])


def vertex_mask(model, name: str) -> np.ndarray:
    """A mask of the texture square at the model's vertices: (V,) bool, skin only."""
    mask = model.masks[name]
    row = np.clip((1 - model.uv[:, 1]) * len(mask), 0, len(mask) - 1).astype(int)
    column = np.clip(model.uv[:, 0] * mask.shape[1], 0, mask.shape[1] - 1).astype(int)
    skin_vertices = np.zeros(len(model.uv), bool)
    skin_vertices[model.triangles[model.region("skin")]] = True
    return skin_vertices & (mask[row, column] > 100)


def head_materials(model) -> np.ndarray:
    """The material (F,) of each of the model's triangles, from the names of its regions; -1: not drawn
    (lashes are alpha-mapped strips, painted on the lids here)."""
    first = {"skin": SKIN, "socket": SOCKET, "mouth": MOUTH, "eye": EYE, "teeth": TEETH, "tongue": TONGUE, "lashes": -1}
    return np.array([first[name.split("_")[0]] for name in model.region_names])[model.regions]
