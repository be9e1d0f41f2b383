"""Clips of video: found, decoded, sampled in time, varied and made into batches.

decoding.py    one video file by PyAV: its frames by number, exact; one folder of frames likewise
store.py       many videos behind one face: decoded each time, or kept decoded in a memory map
keeping.py     decoding everything once: what is wrong with it, and the memory map
folders.py     a folder for each label, by split or not; lists.py: paths with labels, splits, groups, folds
raw.py         the parts of a data set; folds.py: held-out shares that keep groups apart
sampling.py    which frames of a video make a clip
augment.py     how a training clip is varied, all its frames alike
rows.py        batches as arrays, made by worker processes too; batches.py: the streams of them
labelled.py    everything of the above for one recipe; sets.py: what comes out of it
builtin.py     moving digits whose motion is the label
"""
