"""Depth maps of subjects of the built-in face: how well the subject is found again, and what surfaces cost.

    OMP_NUM_THREADS=1 python -m tests.bench.depth --subjects 8

Error: mean distance of the neutral grid (64 x 64) after a similarity, over the mean face's (1: nothing was found out).
Subjects turned up to 25 degrees, half of them with an expression, cameras 0.45 to 1.5 m away, crops of 160 to 220 mm.
Times are the process's own, their ratio to Open3D's bare Poisson call on the same points, in turn.
"""
import argparse
import time

import numpy as np

from Dataset.face_model.model import load_face_model
from Dataset.fitting.depth_fit import fit_depth
from Dataset.fitting.surface_reconstruction import PoissonOptions, depth_surface
from Dataset.geometry.camera import look_at_face
from Dataset.geometry.mesh import Mesh
from Dataset.geometry.transforms import umeyama
from Dataset.representations import points
from Dataset.representations.depth import (assumed_camera, decode, decode_depth, depth_range, encode, encode_depth,
                                           from_image, to_image, triangulate)
from Dataset.synthesis.scene import pose_vertices


def rendered(subject, size, model):
    """Truth (4096, 3) mm, camera, depth map of the face without ears and neck."""
    rng = np.random.default_rng([77, subject])
    identity, expression = model.sample_identity(rng), model.sample_expression(rng, 0.5) * (subject % 2)
    pose = np.array([rng.uniform(-25, 25), rng.uniform(-12, 12), rng.uniform(-10, 10), 0, 0, 0])
    distance = np.exp(rng.uniform(np.log(450), np.log(1500)))
    camera = look_at_face(size, distance, size * distance / rng.uniform(160, 220))
    depth = encode(Mesh(pose_vertices(model.shape(identity, expression), pose), model.triangles), camera)
    depth[depth > np.nanmin(depth) + 90] = np.nan
    return points.decode(points.encode(model.shape(identity), 64, model)), camera, depth


def spent(function):
    """(result, seconds of this process)."""
    start = time.process_time()
    return function(), time.process_time() - start


def bare_poisson(cloud, camera):
    """What Open3D alone takes, with its own defaults but for the level and the threads."""
    import open3d as o3d

    plain = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(cloud.vertices))
    plain.estimate_normals()
    plain.orient_normals_towards_camera_location(camera.position())
    return o3d.geometry.TriangleMesh.create_from_point_cloud_poisson(plain, depth=7, n_threads=1)


def fits(subjects, size, model):
    """One line for each kind of map."""
    mean = points.decode(points.encode(model.mean, 64, model))
    errors = {}
    for subject in range(subjects):
        truth, camera, depth = rendered(subject, size, model)
        limits, values = depth_range(depth, camera.focal), encode_depth(depth, None, camera.focal)
        eight = from_image(to_image(values))
        floor = np.linalg.norm(umeyama(mean, truth).apply(mean) - truth, axis=1).mean()
        for name, (found, view, sized) in {
                "true depth, true camera": (depth, camera, True),
                "the same, its size unknown": (depth, camera, False),
                "8 bits, true camera and distance": (decode_depth(eight, limits), camera, False),
                "camera and distance guessed": (decode_depth(values), assumed_camera(size), False),
                "both: a network's answer at best": (decode_depth(eight), assumed_camera(size), False)}.items():
            fit, seconds = spent(lambda: fit_depth(found, view, model, sized))
            grid = fit.grid(64, model)
            error = np.linalg.norm(umeyama(grid, truth).apply(grid) - truth, axis=1).mean()
            errors.setdefault(name, []).append((error / floor, fit.size, seconds))
    for name, rows in errors.items():
        ratio, grown, seconds = np.mean(rows, 0)
        print(f"{name:34} {ratio:.2f} of the mean face's error (worst {np.max(rows, 0)[0]:.2f}), size {grown:.3f}, "
              f"{seconds:.2f} s")


def surfaces(size, rounds, model):
    """Seconds of each step, and the ratio to Open3D alone."""
    _, camera, depth = rendered(0, size, model)
    cloud = decode(depth, camera)
    steps = {"Open3D alone": lambda: bare_poisson(cloud, camera), "cloud": lambda: decode(depth, camera),
             "triangles": lambda: triangulate(depth, camera), "poisson": lambda: depth_surface(depth, camera),
             "watertight": lambda: depth_surface(depth, camera, options=PoissonOptions(watertight=True))}
    times = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            times[name].append(spent(step)[1])
    base = np.median(times["Open3D alone"])
    for name, seconds in times.items():
        print(f"{name:34} {1000 * np.median(seconds):7.1f} ms, {np.median(seconds) / base:.2f} x Open3D alone "
              f"({len(cloud.vertices)} points)")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subjects", type=int, default=8)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    model = load_face_model()
    surfaces(256, arguments.rounds, model)
    fits(arguments.subjects, arguments.size, model)


if __name__ == "__main__":
    main()
