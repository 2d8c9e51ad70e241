"""CIFAR-10 in the official binary layout, as PyTorch tensors."""
from pathlib import Path

import numpy as np
import torch

MEAN = torch.tensor([125.31, 122.95, 113.87]).view(1, 3, 1, 1)
STD = torch.tensor([62.99, 62.09, 66.70]).view(1, 3, 1, 1)
RECORD = 1 + 3 * 32 * 32
PAD, CUT, SIDE = 4, 8, 32
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
            raise ValueError(
                f"{folder / name}: {bytes_.size} bytes are not a whole number of {RECORD}-byte records"
            )
        records.append(bytes_.reshape(-1, RECORD))
        have += len(records[-1])
        if count is not None and have >= count:
            break
    if count is not None and have < count:
        raise ValueError(f"{folder}: {count} images asked for, the {split} split holds {have}")
    table = torch.from_numpy(np.concatenate(records)[:count])
    images = (table[:, 1:].reshape(-1, 3, 32, 32).float() - MEAN) / STD
    return images, table[:, 0].long()


def augment(padded):
    """(N, 3, 40, 40), padded and normalised -> (N, 3, 32, 32): crop, flip, cutout of each image."""
    n, device = len(padded), padded.device
    pixel = torch.arange(SIDE, device=device)
    offset = torch.randint(0, 2 * PAD + 1, (2, n, 1), device=device)
    rows, columns = offset[0] + pixel, offset[1] + pixel
    flip = torch.rand(n, 1, device=device) < 0.5
    columns = torch.where(flip, columns.flip(1), columns)
    images = padded[
        torch.arange(n, device=device).view(n, 1, 1), :, rows.unsqueeze(2), columns.unsqueeze(1)
    ].permute(0, 3, 1, 2)
    corner = torch.randint(0, SIDE - CUT + 1, (2, n, 1), device=device)
    cut_rows, cut_columns = ((pixel >= c) & (pixel < c + CUT) for c in corner)
    return images.masked_fill((cut_rows.unsqueeze(2) & cut_columns.unsqueeze(1)).unsqueeze(1), 0.0)
