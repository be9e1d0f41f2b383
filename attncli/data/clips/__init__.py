"""Clips of video: found, decoded, sampled in time, varied and made into batches.

decoding.py    one video file by PyAV: its frames by number, exact; one folder of frames likewise
store.py       many videos behind one face: decoded each time, or kept decoded in a memory map
sources.py     where videos are: class folders, split folders, lists of paths with splits, groups, folds
folds.py       folds and held-out shares that keep groups apart
sampling.py    which frames of a video make a clip
augment.py     how a training clip is varied, all its frames alike
labelled.py    everything of the above for one recipe; batches
builtin.py     moving digits whose motion is the label
"""
