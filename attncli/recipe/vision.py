"""Recipe sections of models that see images or clips: how pictures are read, varied and loaded."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from attncli.recipe.sections import Rule, Section


class PictureParts(Section):
    """What every data set of pictures has: a place, its parts, limits, and how it is loaded."""

    places: ClassVar[tuple[str, ...]] = ("path", "validation", "tests")

    path: str = "builtin"
    """builtin, a folder, a CSV or parquet file, or the name of a hub data set."""
    validation: str | float = 0.1
    """Where there is no validation part: another path, or the share of the examples held out."""
    tests: list[str] = Field(default_factory=list)
    """Test sets measured after training, by path; empty takes every part whose name begins with test."""
    limit: int = Field(0, ge=0)
    """Read at most so many training examples; 0 reads all."""
    corrupt: Literal["refuse", "skip"] = "refuse"
    """What becomes of a file that cannot be decoded: refuse names all such files before training starts (of
    sets too large for memory, those that are cut short or no pictures), skip leaves them out and counts
    them."""
    workers: int = Field(0, ge=0)
    """Processes that decode and vary examples while the model works; 0 is a thread of this one."""
    memory: int = Field(2048, ge=0)
    """Mebibytes of decoded examples that are kept in a cache file, so that each is decoded once; larger sets
    are decoded every time. 0 keeps none."""
    cache: str = ""
    """Folder for downloads and decoded examples; empty is the user's cache folder."""


class LabelledPictures(PictureParts):
    """``data`` of image classification: a folder for each label, or a table of files or pictures."""

    image: str = ""
    """Column of the picture or its path; empty takes image, img, path, file, file_name or the like."""
    label: str = ""
    """Column of the label; empty takes label, labels, class, target or the like."""
    split: str = ""
    """Column that says train, validation or test of each row; empty takes split or subset where there is
    one."""
    kind: Literal["auto", "single", "multi", "regression"] = "auto"
    """One label a picture, several, or a number; auto reads it from the labels: lists are several, numbers
    with fractions are regression."""
    labels: list[str] = Field(default_factory=list)
    """Every label, in the order of the outputs; empty takes those of the training part, sorted."""


class AugmentSection(Section):
    """``train.augment``: how training images are varied. All is drawn anew for each image and epoch."""

    flip: float = Field(0.0, ge=0, le=1)
    """Share of the images that are mirrored left to right."""
    shift: int = Field(0, ge=0)
    """Images are moved by at most so many pixels each way, zeros coming in."""
    scale: float = Field(1.0, gt=0, le=1)
    """Smallest share of an image's area that a random cut-out keeps, before it is resized; 1 cuts nothing."""
    operations: int = Field(0, ge=0)
    """RandAugment (Cubuk et al. 2020): operations drawn for each image; 0 is off."""
    magnitude: int = Field(9, ge=0, le=10)
    """Strength of RandAugment's operations."""
    erase: float = Field(0.0, ge=0, le=1)
    """Share of the images with a rectangle erased (Zhong et al. 2020)."""
    mixup: float = Field(0.0, ge=0)
    """Beta(a, a) of mixing pairs of images (Zhang et al. 2018); 0 is off."""
    cutmix: float = Field(0.0, ge=0)
    """Beta(a, a) of pasting a piece of another image (Yun et al. 2019); 0 is off. With mixup too, each batch
    draws one of the two."""


class PixelSection(Section):
    """What pictures become before a model sees them."""

    size: list[int] = Field(default_factory=list, max_length=2)
    """Height and width in pixels, or one number for both; empty takes the data's own where it is one size."""
    channels: Literal["auto", "grey", "rgb"] = "auto"
    """auto is grey where all training images are."""
    fit: Literal["crop", "pad", "stretch"] = "crop"
    """How an image of another shape becomes size: its middle is cut out, its rim filled, or it is
    stretched."""
    normalise: Literal["data", "half", "imagenet"] = "data"
    """Mean and deviation that pixels are brought to 0 and 1 with: of the training part, 0.5 and 0.5, or
    ImageNet's."""

    def cross_checks(self) -> list[Rule]:
        """Sizes are positive."""
        if any(side < 1 for side in self.size):
            return [(("size",), f"{self.size} must be whole numbers above 0")]
        return []
