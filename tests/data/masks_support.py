"""Small folders of pictures with masks."""

import json

import numpy as np
from PIL import Image


def scene(rng, height=24, width=32, classes=3):
    """A picture whose mask can be read off its colours."""
    mask = np.zeros((height, width), np.uint8)
    for label in range(1, classes):
        top, left = rng.integers(0, height - 9), rng.integers(0, width - 9)
        mask[top : top + 9, left : left + 9] = label
    colours = np.array([[40, 60, 80], [210, 60, 60], [60, 210, 90], [230, 230, 60]], np.int64)
    image = colours[mask] + rng.integers(-20, 21, (height, width, 3))
    return image.clip(0, 255).astype(np.uint8), mask


def write_folders(root, classes=3, size=(24, 32), **counts):
    """``part/images``, ``part/masks`` and ``classes.txt``."""
    rng = np.random.default_rng(0)
    for part, count in counts.items():
        for kind in ("images", "masks"):
            (root / part / kind).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            image, mask = scene(rng, *size, classes)
            Image.fromarray(image).save(root / part / "images" / f"{number:03}.png")
            Image.fromarray(mask).save(root / part / "masks" / f"{number:03}.png")
    (root / "classes.txt").write_text("".join(f"{n}\n" for n in ("ground", "red", "green", "gold")[:classes]))
    return root


def write_voc(root, count=4):
    """Pascal VOC's layout, palette masks with a rim of 255."""
    rng = np.random.default_rng(1)
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    names = []
    for number in range(count):
        image, mask = scene(rng)
        mask[0] = 255
        shown = Image.fromarray(mask, "P")
        shown.putpalette(rng.integers(0, 256, 768).tolist())
        name = f"2007_{number:06}"
        Image.fromarray(image).save(root / "JPEGImages" / f"{name}.jpg")
        shown.save(root / "SegmentationClass" / f"{name}.png")
        names.append(name)
    half = count // 2
    (root / "ImageSets/Segmentation/train.txt").write_text("\n".join(names[:half]) + "\n")
    (root / "ImageSets/Segmentation/val.txt").write_text("\n".join(names[half:]) + "\n")
    (root / "ImageSets/Segmentation/trainval.txt").write_text("\n".join(names) + "\n")
    return root


def write_coco(root, count=3):
    """COCO's layout: a square as polygon, a smaller one over it as run lengths."""
    (root / "train").mkdir(parents=True)
    images, annotations = [], []
    for number in range(1, count + 1):
        Image.new("RGB", (20, 16), (10 * number, 50, 90)).save(root / "train" / f"{number}.jpg")
        images.append({"id": number, "file_name": f"{number}.jpg", "height": 16, "width": 20})
        square = [2, 2, 12, 2, 12, 12, 2, 12]
        annotations.append({"id": 2 * number, "image_id": number, "category_id": 7, "segmentation": [square]})
        inner = np.zeros((16, 20), bool)
        inner[4:8, 4:8] = True
        flat = inner.T.ravel()
        edges = np.flatnonzero(np.diff(flat)) + 1
        counts = np.diff([0, *edges.tolist(), flat.size]).tolist()
        rle = {"counts": counts, "size": [16, 20]}
        annotations.append({"id": 2 * number + 1, "image_id": number, "category_id": 3, "segmentation": rle})
    categories = [{"id": 7, "name": "square"}, {"id": 3, "name": "hole"}]
    told = {"images": images, "annotations": annotations, "categories": categories}
    (root / "annotations").mkdir()
    (root / "annotations" / "instances_train.json").write_text(json.dumps(told))
    return root
