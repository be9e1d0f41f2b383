"""Pictures for tests: encoded in memory, or written as a folder of labels."""

import io

import numpy as np
from PIL import Image


def noise(height, width, channels=3, seed=0):
    """Smooth noise uint8 [H, W, C], so that JPEG keeps most of it."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (max(2, height // 4), max(2, width // 4), channels), dtype=np.uint8)
    shown = Image.fromarray(small[..., 0] if channels == 1 else small).resize((width, height))
    return np.asarray(shown).reshape(height, width, channels)


def encode(image, form="PNG", **options):
    """Bytes of a file, of Pillow's image or of pixels."""
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image[..., 0] if image.ndim == 3 and image.shape[2] == 1 else image)
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def class_folder(root, labels=("cat", "dog"), each=6, size=(8, 8), channels=3, ending="png"):
    """A folder of pictures for each label."""
    for number, label in enumerate(labels):
        (root / label).mkdir(parents=True)
        for at in range(each):
            image = noise(*size, channels, seed=100 * number + at)
            (root / label / f"{at}.{ending}").write_bytes(encode(image, {"jpg": "JPEG"}.get(ending, ending)))
    return root
