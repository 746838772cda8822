"""Renders and colours by numbers: ambient occlusion, the box of a turned head, glasses outside the head, and photos
that paint only what they show."""
from functools import lru_cache
from types import SimpleNamespace

import numpy as np
import pytest

from Dataset.face_model.model import load_face_model
from Dataset.geometry.camera import look_at_face
from Dataset.geometry.transforms import rotation_from_euler, to_unit_sphere
from Dataset.rendering import shading
from Dataset.rendering.raycast import Scene
from Dataset.representations.points import encode
from Dataset.synthesis.framing import expected_box, predict_box
from Dataset.synthesis.glasses import CLEAR, DARK, make_glasses
from Dataset.synthesis.render_workers import render_context
from Dataset.synthesis.scene import EYE, SKIN, SceneSubject, View, head_materials, sample_view, view_camera
from Dataset.synthesis.skin import sample_appearance
from Evaluation.figures.overlay import Drawn, blend
from Evaluation.views.uv import project_texture
from Network.inference.texture import Texture, frontal_view, view_of
from Network.layers.grid import grid_normals, resample

# Dataset/rendering/shading.py, Dataset/synthesis/scene.py


def test_ambient_light_is_scaled_by_ambient_occlusion_and_the_lamp_is_not():
    normals, eye = np.tile([0, 0, 1.0], (3, 1)), np.tile([0, 0, 1.0], (3, 1))
    ambient = np.zeros((9, 3))
    ambient[0] = 1 / 0.282095
    light = shading.Light(np.array([0, 0, 1.0]), np.array([0.5, 0.5, 0.5]), ambient)
    matt = shading.Material(np.full((3, 3), 0.4), np.zeros(3), np.ones(3))
    got = shading.shade(normals, eye, matt, light, ambient_occlusion=np.array([1.0, 0.25, 0.0]))
    np.testing.assert_allclose(got[:, 0], 0.4 * (0.5 + np.array([1.0, 0.25, 0.0])), atol=1e-5)


def test_no_light_is_negative():
    """A lamp behind a surface, and an environment whose harmonics go below 0, give none."""
    back = np.array([[0, 0, -1.0], [0, 0, 1.0]])
    coefficients = np.zeros((9, 3))
    coefficients[2] = 1.0
    light = shading.Light(np.array([0, 0, 1.0]), np.ones(3), coefficients)
    np.testing.assert_allclose(shading.lamp_light(back, light)[:, 0], [0, 1])
    np.testing.assert_allclose(shading.ambient_light(back, coefficients)[:, 0], [0, 0.488603 * 2 / 3], atol=1e-6)


@lru_cache(maxsize=1)
def scene_subject() -> SceneSubject:
    rng = np.random.default_rng(4)
    return SceneSubject(render_context(), np.zeros(200, np.float32), sample_appearance(rng))


def view(angles=(0.0, 0.0, 0.0)) -> View:
    rng = np.random.default_rng(4)
    return sample_view(rng, np.zeros(len(load_face_model().expression)), angles=np.array(angles))


def test_images_are_shaded_with_the_ambient_occlusion_of_the_stage(monkeypatch):
    """What reaches the shader is the render context's ambient occlusion, interpolated; hollows (beside the nose, the
    ears' inside, the eyes' corners) are darker than the cheeks."""
    context, given, real = render_context(), [], shading.shade

    def noted(normals, to_eye, material, light, visibility=1.0, ambient_occlusion=1.0):
        given.append(np.broadcast_to(ambient_occlusion, normals.shape[:1]).copy())
        return real(normals, to_eye, material, light, visibility, ambient_occlusion)
    monkeypatch.setattr(shading, "shade", noted)
    posed = scene_subject().set(view())
    camera = look_at_face(32, float(posed.view.distance), float(posed.view.focal) * 32 / 144)
    hits = posed.scene.cast(camera)
    posed.render(camera, smooth=False, hits=hits)
    seen = hits.triangle >= 0
    corners, count = posed.triangles[hits.triangle[seen]], len(context.ambient_occlusion)
    head = (corners < count).all(1) & (posed.materials[hits.triangle[seen]] == SKIN)
    expected = (context.ambient_occlusion[np.where(head[:, None], corners, 0)] * hits.barycentric[seen]).sum(1)
    found, = given
    np.testing.assert_allclose(found[head], expected[head], atol=1e-5)
    assert context.ambient_occlusion.min() < 0.35 and found[head].min() < 0.6 and found[head].max() > 0.9
    eye = posed.materials[hits.triangle[seen]] == EYE
    assert eye.any() and (found[eye] < (context.ambient_occlusion[np.where(eye[:, None], corners, 0)]
                                        * hits.barycentric[seen]).sum(1)[eye] - 0.02).any()      # the lid's shade


# Dataset/synthesis/framing.py


def test_the_box_of_a_turned_head_lies_behind_it_on_either_side():
    """0.11 sides towards where the head turns from (docs: yaw > 0 points to image right), as far for either side."""
    model, middles = load_face_model(), {}
    for yaw in (-50.0, 50.0):
        offsets = []
        for seed in range(200):
            settings = view((yaw, 0, 0))._replace(seed=seed)
            marks = model.landmarks(model.mean) @ rotation_from_euler(yaw).T
            posed = SimpleNamespace(view=settings, landmarks=lambda marks=marks: marks)
            x, _, side, _ = predict_box(posed)
            left, _, expected, _ = expected_box(view_camera(settings).project(marks))
            offsets.append((x + side / 2 - left - expected / 2) / expected)
        middles[yaw] = np.mean(offsets)
    assert middles[50.0] == pytest.approx(-0.11, abs=0.03) and middles[-50.0] == pytest.approx(0.11, abs=0.03)


# Dataset/synthesis/glasses.py


@pytest.mark.parametrize("kind", [CLEAR, DARK])
def test_temples_pass_beside_the_head(kind):
    """From a temple's middle line nothing of the skin is hit outwards, from behind the hinge to before the ear, and it
    ends beside the head at the ear's height; of several heads."""
    model = load_face_model()
    skin = model.triangles[head_materials(model) == SKIN]
    for seed in range(6):
        rng = np.random.default_rng(seed)
        head = np.asarray(model.shape(model.sample_identity(rng)), float)
        marks = model.landmarks(head)
        glasses, scene = make_glasses(marks, kind, rng), Scene(head, skin, 1)
        tubes = glasses.vertices[-2 * 3 * 5:].reshape(2, 3, 5, 3).mean(2)      # of each temple: hinge, bend, end
        for side, (hinge, bend, end), ear in zip((-1, 1), tubes, (marks[0], marks[16])):
            line = np.concatenate([hinge + np.linspace(0.3, 1, 8)[:, None] * (bend - hinge),
                                   bend + np.linspace(0, 0.75, 12)[:, None] * (end - bend)])
            outwards = np.tile([side * 300.0, 0, 0], (len(line), 1))
            assert not scene.occluded(line, outwards, far=1.0).any(), (seed, side)
            assert side * bend[0] >= abs(ear[0]) + 2.9 and side * bend[0] >= side * hinge[0] + 1.9
            assert side * end[0] == pytest.approx(abs(ear[0]) + 4, abs=0.5) and end[2] < ear[2]


# Network/inference/texture.py, Dataset/rendering/texture.py


def face() -> np.ndarray:
    return to_unit_sphere(encode(load_face_model().mean, 64).reshape(-1, 3))[0]


def positions(points: np.ndarray, shift: float = 0.0) -> np.ndarray:
    few = resample(points, 16)
    return np.stack([0.5 + shift + 0.4 * few[:, 0], 0.5 - 0.4 * few[:, 1]], 1)


def test_a_photo_gives_no_colour_to_what_lies_off_it():
    """A face that hangs over the photo's right border by a third: what is off it has no weight, and takes no colour."""
    points = face()
    view = view_of(points, positions(points, 0.35))
    outside = ((view.position <= 0) | (view.position >= 1)).any(1)
    assert 0.1 < outside.mean() < 0.6 and (view.weight[outside] == 0).all() and view.weight.max() > 0.5


def test_what_turns_its_back_has_no_weight():
    """The sharpness is even: without its clip a surface that looks away would weigh as one that faces the camera."""
    points = face()
    inside_out = points * (-1, 1, 1)
    away = grid_normals(inside_out)[:, 2] < -0.1
    assert away.mean() > 0.9
    assert frontal_view(inside_out).weight[away].max() == 0
    assert view_of(inside_out, positions(inside_out)).weight[away].max() < 1e-9
    back = grid_normals(points) @ rotation_from_euler(70)[2] < -0.1
    assert back.mean() > 0.1 and view_of(points, _turned_positions(points, 70)).weight[back].max() < 1e-6


def _turned_positions(points: np.ndarray, yaw: float) -> np.ndarray:
    few = resample(points, 16) @ rotation_from_euler(yaw).T
    return np.stack([0.5 + 0.4 * few[:, 0], 0.5 - 0.4 * few[:, 1]], 1)


def test_what_lies_behind_the_nose_is_not_painted():
    """At 50 degrees: points behind others by more than 0.08 have no weight, though they face the camera."""
    points = face()
    turned = points @ rotation_from_euler(50).T
    view = view_of(points, _turned_positions(points, 50))
    cell = np.floor(view.position * 24).astype(int) @ (1, 1000)
    nearest = {key: turned[cell == key, 2].max() for key in np.unique(cell)}
    behind = turned[:, 2] < np.array([nearest[key] for key in cell]) - 0.3
    facing = grid_normals(points) @ rotation_from_euler(50)[2] > 0.3
    hidden = view.weight[behind & facing]       # the nose's outline leaves some cells empty
    assert len(hidden) > 20 and (hidden == 0).mean() > 0.6 and (view.weight[facing & ~behind] > 0).mean() > 0.6


def test_hair_before_the_face_is_not_painted_onto_it():
    points = face()
    texture, photo = Texture(len(points)), np.full((80, 80, 3), 50, np.uint8)
    photo[:, 40:] = 220                             # hair over the image's right half
    free = np.zeros((80, 80), bool)
    free[:, :40] = True
    texture.add(photo, frontal_view(points), free)
    assert np.abs(texture.rgb().astype(int) - 50).max() <= 2


# Evaluation/views/uv.py, overlay.py


@pytest.mark.parametrize("shape", [(8, 24), (24, 8)])
def test_a_texture_that_is_not_square_is_looked_up_by_its_sides(shape):
    """A texel of its own colour at u = 7/8, v = 5/8, in rows from above."""
    texture = np.zeros((*shape, 3), np.uint8)
    texture[int(0.25 * shape[0]):int(0.5 * shape[0]), int(0.75 * shape[1]):] = (10, 100, 200)
    uv = np.full((16, 16, 2), np.nan, np.float32)
    uv[4:12, 4:12] = 7 / 8, 5 / 8
    drawn = project_texture(np.full((16, 16, 3), 50, np.uint8), uv, texture)
    assert (drawn[6:10, 6:10] == (10, 100, 200)).all() and (drawn[0] == 50).all()


@pytest.mark.parametrize("shape, left, top", [((40, 120, 3), 90, 5), ((120, 40, 3), 5, 90)])
def test_a_face_at_the_far_end_of_a_frame_is_drawn(shape, left, top):
    frame, whole = np.zeros(shape, np.uint8), np.ones((20, 20), np.float32)
    blend(frame, Drawn(whole, whole, float(left), float(top), 20.0), (10, 100, 200), 1.0)
    assert (frame[top + 2:top + 18, left + 2:left + 18] == (10, 100, 200)).all()
    assert frame.any(-1).sum() <= 20 * 20
