"""Pictures with boxes: annotations of the field's formats, checked, varied, and made into batches.

    scenes.py      what an annotated picture is; boxes cut at its edges
    coco.py, voc.py, yolo.py, hub.py    how each format is read
    layouts.py     which parts a folder has, and in which format
    builtin.py     digits scattered in scenes, which need no files
    prepare.py     everything that a detector learns from and is measured on
    augment.py     pictures varied with their boxes
    batches.py     pictures and boxes as tensors

A box is (x0, y0, x1, y1) in pixels, the corner with the larger values not part of it.
"""
