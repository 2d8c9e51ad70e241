"""Writes a batch of two images as a pickle, in the manner of the Python and numpy that run this.

    python make_pickles.py OUT PROTOCOL

The committed files: py2.pickle (Python 2.7, numpy 1.16, protocol 2, as the published files are),
numpy1_pN.pickle (Python 3.11, numpy 1.26) and numpy2_pN.pickle (Python 3.11, numpy 2.4), protocol N.
"""
import sys

try:
    import cPickle as pickle  # what wrote the published files
except ImportError:
    import pickle

import numpy

data = numpy.empty((2, 3072), dtype=numpy.uint8)
for i in range(2):
    for j in range(3072):
        data[i, j] = (100 * i + 7 * j + j // 256) % 256
batch = {
    "batch_label": "testing batch 1 of 1",
    "labels": [3, 8],
    "data": data,
    "filenames": ["domestic_cat_s_000907.png", "hydrofoil_s_000078.png"],
}
if sys.version_info[0] == 3:
    batch = {key.encode(): value for key, value in batch.items()}
with open(sys.argv[1], "wb") as out:
    pickle.dump(batch, out, int(sys.argv[2]))
