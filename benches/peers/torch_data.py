"""CIFAR-10 in the official binary layout, as PyTorch tensors."""

from pathlib import Path

import numpy as np
import torch

MEAN = torch.tensor([125.31, 122.95, 113.87]).view(1, 3, 1, 1)
STD = torch.tensor([62.99, 62.09, 66.70]).view(1, 3, 1, 1)
RECORD = 1 + 3 * 32 * 32
FILES = {"train": [f"data_batch_{i}.bin" for i in range(1, 6)], "test": ["test_batch.bin"]}


def load(data_dir, split, count=None):
    """The first `count` images of a split in file order: f32 (N, 3, 32, 32) normalised, i64 labels (N,).

    The batches lie in `data_dir` or in its `cifar-10-batches-bin`.
    """
    folder = Path(data_dir)
    if not (folder / FILES[split][0]).exists():
        folder = folder / "cifar-10-batches-bin"
    records, have = [], 0
    for name in FILES[split]:
        bytes_ = np.fromfile(folder / name, dtype=np.uint8)
        if bytes_.size == 0 or bytes_.size % RECORD:
            raise ValueError(f"{folder / name}: {bytes_.size} bytes are not a whole number of {RECORD}-byte records")
        records.append(bytes_.reshape(-1, RECORD))
        have += len(records[-1])
        if count is not None and have >= count:
            break
    if count is not None and have < count:
        raise ValueError(f"{folder}: {count} images asked for, the {split} split holds {have}")
    table = torch.from_numpy(np.concatenate(records)[:count])
    images = (table[:, 1:].reshape(-1, 3, 32, 32).float() - MEAN) / STD
    return images, table[:, 0].long()
