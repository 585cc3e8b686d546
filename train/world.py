"""Reads folders of scenes (see src/scenes/folder.rs) into arrays that training can index.

Pictures and labels are decoded once into memory-mapped .npy files beside the folder. Knows nothing of models.
"""
import json
import os
from multiprocessing import Pool
from pathlib import Path

import numpy as np
from PIL import Image

PATCH = 16
GRID = 12
PATCHES = GRID * GRID
HERE = Path(__file__).parent
CLASSES = [o["class"] for o in json.loads((HERE.parent / "assets/objects/objects.json").read_text())["objects"]]
COLORS = ["red", "yellow", "green", "cyan", "blue", "purple"]
BACKGROUNDS = ["grass", "sand", "water", "snow", "bricks", "wood", "clouds", "stars"]
PLACES = ["top left", "top", "top right", "left", "center", "right", "bottom left", "bottom", "bottom right"]
NO_CLASS = len(CLASSES)  # label of a patch that shows background
UNCLEAR = -1  # label of a patch that shows a little of an object
LABELS = ["class", "color", "place", "dx", "dy", "centre"]


def read_scenes(folder):
    with open(Path(folder) / "scenes.jsonl") as file:
        return [json.loads(line) for line in file]


def patch_labels(mask, scene):
    """int8 [6, 144]: what each patch shows. A patch belongs to the object that covers most of it, if that is over
    a quarter; it is background if objects cover less than 3 %; else it is left out."""
    count = len(scene["objects"])
    blocks = mask.reshape(GRID, PATCH, GRID, PATCH).transpose(0, 2, 1, 3).reshape(PATCHES, PATCH * PATCH)
    cover = np.stack([(blocks == k + 1).mean(1) for k in range(count)])
    best, most = cover.argmax(0), cover.max(0)
    labels = np.full((len(LABELS), PATCHES), UNCLEAR, np.int8)
    labels[0, cover.sum(0) < 0.03] = NO_CLASS
    labels[5] = 0
    x, y = np.arange(PATCHES) % GRID * PATCH + 8, np.arange(PATCHES) // GRID * PATCH + 8
    for k, item in enumerate(scene["objects"]):
        mine = (best == k) & (most > 0.25)
        cx, cy = item["center"]
        labels[0, mine] = CLASSES.index(item["class"])
        labels[1, mine] = 0 if item["color"] is None else 1 + COLORS.index(item["color"])
        labels[2, mine] = PLACES.index(item["place"])
        labels[3, mine] = np.clip(cx - x[mine], -60, 60)
        labels[4, mine] = np.clip(cy - y[mine], -60, 60)
        labels[5, min(int(cy) // PATCH, GRID - 1) * GRID + min(int(cx) // PATCH, GRID - 1)] = 1
    return labels


def _decode(job):
    folder, scene = job
    image = np.asarray(Image.open(Path(folder) / "images" / scene["file"]).convert("RGB"))
    mask = np.asarray(Image.open(Path(folder) / "masks" / scene["file"]))
    return image, patch_labels(mask, scene)


def load(folder, workers=2):
    """(pixels uint8 [n, 192, 192, 3], labels int8 [n, 6, 144], scenes), decoded on the first call."""
    folder = str(folder)
    scenes = read_scenes(folder)
    paths = [os.path.join(folder, name) for name in ("pixels.npy", "labels.npy")]
    if not all(os.path.exists(path) for path in paths):
        pixels = np.lib.format.open_memmap(paths[0] + ".part", "w+", np.uint8, (len(scenes), 192, 192, 3))
        labels = np.zeros((len(scenes), len(LABELS), PATCHES), np.int8)
        with Pool(workers) as pool:
            jobs = ((folder, scene) for scene in scenes)
            for i, (image, label) in enumerate(pool.imap(_decode, jobs, chunksize=64)):
                pixels[i], labels[i] = image, label
        pixels.flush()
        np.save(paths[1], labels)
        os.replace(paths[0] + ".part", paths[0])
    return np.load(paths[0], mmap_mode="r"), np.load(paths[1]), scenes
