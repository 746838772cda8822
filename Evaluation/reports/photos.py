"""Whole photos of real people, as a command line asks for them: landmarks by yaw, pairs, subjects with scans."""
from __future__ import annotations

from argparse import Namespace
from typing import Any, Callable

from Evaluation.reports.landmarks import folder_table
from Evaluation.reports.pairs import pairs_table
from Evaluation.reports.scans import scan_report


def photos_table(predictor: Any, faces_of: Callable[[Any], Any], arguments: Namespace, progress: Callable[..., Any]
                 ) -> Any:
    """The table of --aflw2000, --pairs or --scans. faces_of: `Network.commands.subject_faces.SubjectFaces`; arguments:
    of `Evaluation.reports.options`."""
    if arguments.aflw2000:
        return folder_table(arguments.aflw2000, predictor.landmarks_in, arguments.model, arguments.boxes, progress)
    faces = faces_of(predictor)
    if arguments.pairs:
        return pairs_table(arguments.pairs, faces.of_photo, arguments.model, progress)
    return scan_report(arguments.scans, faces, arguments.model, arguments.scan_unit, arguments.photos, arguments.images,
                       arguments.figures, progress)
