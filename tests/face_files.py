"""Tiny face models in other subjects' layouts, made of the built-in: another mean, other vertices, few directions."""
from __future__ import annotations

import pickle
import sys
import types
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import scipy.io

from Dataset.face_model.model import BUILT_IN, load_face_model

SIGMAS = (3.0, 2.0, 1.5, 1.0)      # of the four identities


class Made(NamedTuple):
    """mean (V, 3) mm in a frame of its own; triangles; identity (4, V, 3) mm per standard deviation, expression
    (2, V, 3) mm; picks (V,): which of the built-in's vertices these are; subject (200,): who the mean is; moved
    (3,)."""

    mean: np.ndarray
    triangles: np.ndarray
    identity: np.ndarray
    expression: np.ndarray
    picks: np.ndarray
    subject: np.ndarray
    moved: np.ndarray


def make(seed: int = 5) -> Made:
    """Skin and mouth of a random subject; jawOpen and browDownLeft."""
    model, rng = load_face_model(BUILT_IN), np.random.default_rng(seed)
    faces = model.triangles[np.sort(model.region("skin", "mouth"))]
    picks = rng.permutation(np.unique(faces))
    new_index = np.zeros(len(model.mean), np.int64)
    new_index[picks] = np.arange(len(picks))
    subject, moved = 0.5 * rng.standard_normal(200), np.array([4.0, -30.0, 60.0])
    identity = np.stack([sigma * model.identity[k][picks] for k, sigma in enumerate(SIGMAS)])
    units = [model.expression_names.index(name) for name in ("jawOpen", "browDownLeft")]
    return Made(model.shape(subject)[picks] + moved, new_index[faces], identity, model.expression[units][:, picks],
                picks, subject, moved)


def write_basel_2009(path: Path, made: Made) -> Path:
    columns = made.identity.reshape(4, -1).T * 1000
    sigma = np.linalg.norm(columns, axis=0)
    scipy.io.savemat(path, {"shapeMU": made.mean.reshape(-1, 1).astype(np.float32) * 1000,
                            "shapePC": (columns / sigma).astype(np.float32), "shapeEV": sigma[:, None],
                            "tl": (made.triangles[:, [0, 2, 1]] + 1).astype(np.int32), "texMU": np.zeros((9, 1))})
    return path


def write_basel_2017(path: Path, made: Made) -> Path:
    with h5py.File(path, "w") as file:
        for name, mean, basis in (("shape", made.mean, made.identity),
                                  ("expression", np.zeros_like(made.mean), made.expression)):
            columns = basis.reshape(len(basis), -1).T
            sigma = np.linalg.norm(columns, axis=0)
            file[f"{name}/model/mean"] = mean.ravel().astype(np.float32)
            file[f"{name}/model/pcaBasis"] = (columns / sigma).astype(np.float32)
            file[f"{name}/model/pcaVariance"] = sigma ** 2
        file["shape/representer/cells"] = made.triangles.T.astype(np.int32)
    return path


def write_flame(path: Path, made: Made, protocol: int = 2) -> Path:
    """As the published file: protocol 2, arrays within chumpy's objects with all that these keep, a sparse matrix of an
    old scipy."""
    names = {"chumpy": {}, "chumpy.ch": {"Ch": None}, "scipy.sparse.csc": {"csc_matrix": None}}
    before = {name: sys.modules.get(name) for name in names}
    try:
        for name, members in names.items():
            module = types.ModuleType(name)
            for member in members:
                setattr(module, member, type(member, (), {"__module__": name}))
            sys.modules[name] = module
        chumpy = sys.modules["chumpy.ch"].Ch()
        basis = np.concatenate([made.identity, made.expression]).transpose(1, 2, 0) / 1000
        chumpy.__dict__ = {"_dirty_vars": set(), "_itr": None, "_make_dense": False, "_make_sparse": False,
                           "_depends_on_deps": {}, "x": basis, "_status": "new"}       # as chumpy 0.70 says of itself
        sparse = sys.modules["scipy.sparse.csc"].csc_matrix()
        sparse.__dict__ = {"data": np.ones(3), "_shape": (5, 5)}
        data = {"v_template": made.mean / 1000, "shapedirs": chumpy, "f": made.triangles.astype(np.uint32),
                "J_regressor": sparse, "bs_style": "lbs", "kintree_table": np.zeros((2, 5), np.int64)}
        path.write_bytes(pickle.dumps(data, protocol))
    finally:
        for name, module in before.items():
            sys.modules.pop(name) if module is None else sys.modules.update({name: module})
    return path


def write_ict(folder: Path, made: Made) -> Path:
    folder.mkdir()
    meshes = {"generic_neutral_mesh": made.mean, **{f"identity{k:03d}": made.mean + x
                                                    for k, x in enumerate(made.identity)},
              "jawOpen": made.mean + made.expression[0], "browDown_L": made.mean + made.expression[1]}
    faces = "".join("f %d %d %d\n" % tuple(face + 1) for face in made.triangles)
    for name, vertices in meshes.items():
        vertex_lines = "".join("v %.7f %.7f %.7f\n" % tuple(vertex / 10) for vertex in vertices)
        (folder / f"{name}.obj").write_text("# made\n" + vertex_lines + faces)
    return folder


WRITERS = {"m.mat": write_basel_2009, "m.h5": write_basel_2017, "m.pkl": write_flame, "facekit": write_ict}
