# SPDX-License-Identifier: GPL-3.0-or-later
"""Stand-alone child process: the only place that imports pycolmap. Run as `python sfm_child.py request.json`.

pycolmap's C++ code can abort the whole process, so it never runs inside the worker. Arguments come as one JSON file,
results leave as `result.json` and `result.npz` in the request's folder; one JSON line per step goes to standard
output. The child ends when its standard input closes, so that it never outlives a killed worker.

Request (all paths below `folder`; images under plain ASCII names `GROUP/NUMBER.png`, one group per lens):
    folder, images, masks (or null), groups {name: {width, height, focal, known}}, shared (one camera per group, else
    one per image), features, peak, affine, guided, pairs (list of name pairs or null: all), mappers, min_model_size,
    min_inlier_ratio, threads, seed.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

Arrays = dict[str, Any]


def main() -> None:
    """Extract, match, map; see the module's text."""
    request = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    messages = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)  # native libraries print
    threading.Thread(target=_end_with_parent, daemon=True).start()

    def say(step: str) -> None:
        messages.write(json.dumps({"step": step}) + "\n")

    import pycolmap

    pycolmap.set_random_seed(request["seed"])
    pycolmap.logging.minloglevel = 1
    folder = Path(request["folder"])
    database = folder / "database.db"
    say("extract")
    _extract(pycolmap, request, database)
    _set_lenses(pycolmap, request, database)
    say("match")
    _match(pycolmap, request, database)
    result, arrays = _read_pairs(pycolmap, database)
    result["models"] = []
    say("map")
    for mapper in request["mappers"]:  # opening one database twice at once fails now and then
        shutil.copyfile(database, _database_of(folder, mapper))
    with ThreadPoolExecutor() as pool:  # both at once: each keeps little more than one core busy
        found = pool.map(lambda mapper: _map(pycolmap, request, mapper), request["mappers"])
    for mapper, models in zip(request["mappers"], found, strict=True):
        for model in sorted(models.values(), key=lambda m: -m.num_reg_images()):
            _store(model, mapper, len(result["models"]), result, arrays)
    np.savez(folder / "result.npz", **arrays)
    (folder / "result.json").write_text(json.dumps(result), encoding="utf-8")
    say("done")


def _end_with_parent() -> None:
    while os.read(0, 4096):
        pass
    os._exit(3)


def _extract(pycolmap: Any, request: dict[str, Any], database: Path) -> None:
    options = pycolmap.FeatureExtractionOptions()
    options.type = pycolmap.FeatureExtractorType.SIFT  # others abort the process in wheels without ONNX
    options.num_threads = request["threads"]
    options.sift.max_num_features = request["features"]
    options.sift.peak_threshold = request["peak"]
    options.sift.estimate_affine_shape = request["affine"]
    options.sift.domain_size_pooling = request["affine"]
    reader = pycolmap.ImageReaderOptions()
    reader.camera_model = "SIMPLE_RADIAL"
    if request["masks"]:
        reader.mask_path = request["masks"]
    mode = pycolmap.CameraMode.PER_FOLDER if request["shared"] else pycolmap.CameraMode.PER_IMAGE
    pycolmap.extract_features(
        database, request["images"], camera_mode=mode, reader_options=reader, extraction_options=options
    )


def _set_lenses(pycolmap: Any, request: dict[str, Any], database: Path) -> None:
    """Focal lengths to start from: EXIF's where there is one, else what the request says."""
    with pycolmap.Database.open(database) as db:
        group_of = {image.camera_id: image.name.split("/")[0] for image in db.read_all_images()}
        for camera in db.read_all_cameras():
            lens = request["groups"][group_of[camera.camera_id]]
            camera.params = [lens["focal"], camera.width / 2, camera.height / 2, 0.0]
            camera.has_prior_focal_length = lens["known"]
            db.update_camera(camera)


def _match(pycolmap: Any, request: dict[str, Any], database: Path) -> None:
    matching = pycolmap.FeatureMatchingOptions()
    matching.type = pycolmap.FeatureMatcherType.SIFT_BRUTEFORCE
    matching.num_threads = request["threads"]
    matching.guided_matching = request["guided"]
    verification = pycolmap.TwoViewGeometryOptions()
    verification.ransac.random_seed = request["seed"]
    verification.min_inlier_ratio = request["min_inlier_ratio"]
    if request["pairs"] is None:
        pycolmap.match_exhaustive(database, matching_options=matching, verification_options=verification)
        return
    listing = Path(request["folder"]) / "pairs.txt"
    listing.write_text("".join(f"{a} {b}\n" for a, b in request["pairs"]), encoding="ascii")
    pairing = pycolmap.ImportedPairingOptions()
    pairing.match_list_path = listing
    pycolmap.match_image_pairs(
        database, matching_options=matching, pairing_options=pairing, verification_options=verification
    )


def _database_of(folder: Path, mapper: str) -> Path:
    return folder / f"{mapper}.db"


def _map(pycolmap: Any, request: dict[str, Any], mapper: str) -> Any:
    seed, threads, smallest = request["seed"], request["threads"], request["min_model_size"]
    database = _database_of(Path(request["folder"]), mapper)
    output = Path(request["folder"]) / mapper
    output.mkdir(exist_ok=True)
    if mapper == "global":
        options = pycolmap.GlobalPipelineOptions()
        options.random_seed = options.mapper.random_seed = seed
        options.num_threads = options.mapper.num_threads = threads
        options.min_model_size = smallest
        # For placing the cameras; points are triangulated from all matches afterwards. All tracks cost fox twice the time.
        options.mapper.track_required_tracks_per_view = 200
        return pycolmap.global_mapping(database, request["images"], output, options)
    options = pycolmap.IncrementalPipelineOptions()
    options.random_seed = options.mapper.random_seed = options.triangulation.random_seed = seed
    options.num_threads = options.mapper.num_threads = threads
    options.min_model_size = smallest
    options.triangulation.ignore_two_view_tracks = smallest > 2
    return pycolmap.incremental_mapping(database, request["images"], output, options)


def _read_pairs(pycolmap: Any, database: Path) -> tuple[dict[str, Any], Arrays]:
    """Feature positions per image and verified matches per pair."""
    arrays: Arrays = {}
    pairs: list[dict[str, Any]] = []
    with pycolmap.Database.open(database) as db:
        names = {image.image_id: image.name for image in db.read_all_images()}
        for number, name in names.items():
            keypoints = db.read_keypoints(number)
            xy = np.asarray(
                keypoints if isinstance(keypoints, np.ndarray) else pycolmap.keypoints_to_matrix(keypoints)
            )
            arrays[f"keypoints/{name}"] = xy[:, :2].astype(np.float32)
        for pair_id, geometry in zip(*db.read_two_view_geometries(), strict=True):
            first, second = pycolmap.pair_id_to_image_pair(pair_id)
            matches = np.asarray(geometry.inlier_matches, np.int32).reshape(-1, 2)
            if len(matches):
                arrays[f"matches/{len(pairs)}"] = matches
                kind = pycolmap.TwoViewGeometryConfiguration(geometry.config).name
                pairs.append({"a": names[first], "b": names[second], "kind": kind, "inliers": len(matches)})
    return {"images": sorted(names.values()), "pairs": pairs}, arrays


def _store(model: Any, mapper: str, number: int, result: dict[str, Any], arrays: Arrays) -> None:
    """One reconstruction as arrays: world-to-camera poses, lenses, points and who saw them where."""
    images = sorted((i for i in model.images.values() if i.has_pose), key=lambda i: i.name)
    place = {image.image_id: index for index, image in enumerate(images)}
    lens_ids = sorted({image.camera_id for image in images})
    point_ids = sorted(model.points3D)
    observations = [
        (place[element.image_id], row, element.point2D_idx)
        for row, point_id in enumerate(point_ids)
        for element in model.points3D[point_id].track.elements
    ]
    key = f"model{number}/"
    arrays[key + "poses"] = np.array([image.cam_from_world().matrix() for image in images])
    arrays[key + "lens_of_image"] = np.array([lens_ids.index(image.camera_id) for image in images], np.int32)
    arrays[key + "lenses"] = np.array([model.cameras[i].params for i in lens_ids])
    arrays[key + "points"] = np.array([model.points3D[i].xyz for i in point_ids]).reshape(-1, 3)
    arrays[key + "colors"] = np.array([model.points3D[i].color for i in point_ids], np.uint8).reshape(-1, 3)
    arrays[key + "observations"] = np.array(observations, np.int32).reshape(-1, 3)
    result["models"].append({"mapper": mapper, "images": [image.name for image in images]})


if __name__ == "__main__":
    main()
