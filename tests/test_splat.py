"""Evaluation/figures/splat.py: what is in front hides what is behind, light falls from the front, holes stay white."""
import numpy as np
import pytest

from Evaluation.figures.splat import Frame, estimate_normals, fill, render_cloud
from tests.clouds import face


def square(z, n=40):
    line = np.linspace(-1, 1, n)
    return np.stack([a.ravel() for a in np.meshgrid(line, line, [z])], axis=1)


def test_the_nearer_square_hides_the_farther():
    points = np.concatenate([square(0.0), 0.5 * square(1.0)])
    colours = np.repeat(np.array([[255, 0, 0], [0, 0, 255]], np.uint8), 1600, axis=0)   # RGB: red behind, blue front
    frame = Frame(np.zeros(3), 1.5)
    front = render_cloud(points, 0, 90, colours, frame, shade=False)
    assert front[45, 45].tolist() == [255, 0, 0]            # BGR: blue
    assert front[45, 20].tolist() == [0, 0, 255] and front[2, 2].tolist() == [255, 255, 255]
    back = render_cloud(points, 180, 90, colours, frame, shade=False)
    assert back[45, 45].tolist() == [0, 0, 255]


def test_yaw_turns_the_face_to_image_right():
    nose = np.array([[0, 0, 1.0]] * 4 + [[0, 0, -1.0]])
    image = render_cloud(nose, 60, 64, frame=Frame(np.zeros(3), 1.5), shade=False)
    dark = np.argwhere((image < 240).any(axis=2))
    assert dark[:, 1].max() > 45 and abs(dark[:, 0].mean() - 32) < 3


def test_a_steep_surface_is_darker():
    slope = square(0.0)
    slope[:, 2] = 3 * np.abs(slope[:, 0]) * -1 + 0.2 * slope[:, 1]
    flat, steep = render_cloud(square(0.0), 0, 60), render_cloud(slope, 0, 60)
    assert flat[30, 30].mean() > 170 > 130 > steep[30, 40].mean()


def test_normals_of_a_sphere_cap_point_outwards():
    points = face(3000, nose=0, eyes=0, skew=0)
    normals, spacing = estimate_normals(points)
    assert np.allclose(np.linalg.norm(normals, axis=1), 1) and (normals[:, 2] > 0).mean() > 0.97
    assert 0.01 < np.median(spacing) < 0.1


def test_a_mesh_is_filled_and_a_sparse_cloud_is_not():
    corners, triangles = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0.0]]), np.array([[0, 1, 2], [0, 2, 3]])
    frame = Frame(np.zeros(3), 1.2)
    assert (render_cloud(corners, 0, 64, frame=frame, triangles=triangles)[8:56, 8:56] < 250).any(axis=2).all()
    assert (render_cloud(corners, 0, 64, frame=frame) < 250).any(axis=2).mean() < 0.2
    points, colours = fill(corners, np.full((4, 3), 7.0), triangles)
    assert np.allclose(colours, 7) and points[:, :2].mean(axis=0) == pytest.approx([0, 0], abs=0.01)


def test_bad_input():
    with pytest.raises(ValueError, match="cloud: want at least one point"):
        render_cloud(np.zeros((0, 3)))
    with pytest.raises(ValueError, match=r"colours: want shape \(20, 3\), got \(4, 3\)"):
        render_cloud(face(20), colours=np.zeros((4, 3), np.uint8))
