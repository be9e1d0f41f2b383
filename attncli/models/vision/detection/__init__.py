"""Detectors: a residual backbone, then proposals and regions (Faster R-CNN), or queries (DETR).

resnet.py         the backbone, under timm's names
pyramid.py        maps of several scales, fused plainly or by attention over scales
anchors.py        reference boxes, and which of them shall find which object
proposals.py      the network that proposes regions
regions.py        the second stage: RoIAlign, attention among regions, classes and boxes
faster_rcnn.py    the two-stage detector
coded.py          attention whose queries and keys carry codes of place, or a bias
detr.py           the set-prediction detector
detections.py     what a detector gives
"""
