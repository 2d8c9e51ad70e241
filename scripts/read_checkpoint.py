"""Restores a small checkpoint of fishmask to a dense file, knowing of its format what docs/checkpoints.md
says.

    python scripts/read_checkpoint.py runs/X --epoch 3 [--step 0] --out dense.safetensors

Needs safetensors and numpy; with the blake3 module the weights are checked against their hash.
"""
import argparse
import json
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file


def head(path):
    """(metadata, tensors by offset, where the data begins) of a file."""
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        tensors = json.loads(file.read(length))
    metadata = json.loads(tensors.pop("__metadata__")["fishmask"])
    return metadata, sorted(tensors.items(), key=lambda t: t[1]["data_offsets"]), 8 + length


def restore(files, path):
    """Of a base or delta: (weights and running statistics in canonical order, the base's tensors)."""
    metadata, tensors, data = files[path]
    if metadata["kind"] == "base":
        return np.fromfile(path, "<f4", offset=data), tensors
    when = {p: (m["kind"] != "base", m["epoch"], m["batch"]) for p, (m, _, _) in files.items()
            if m["weights"] == metadata["parent"] and p != path}
    if not when:
        sys.exit(f"{path}: its parent {metadata['parent']} is missing")
    flat, tensors = restore(files, min(when, key=when.get))
    delta = load_file(path)
    flat[load_file(path.parent / f"mask-{metadata['mask'][:16]}.safetensors")["indices"]] = delta["values"]
    flat[len(flat) - len(delta["running"]):] = delta["running"]
    return flat, tensors


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("run", type=Path)
parser.add_argument("--epoch", type=int, required=True)
parser.add_argument("--step", type=int, default=0)
parser.add_argument("--out", required=True)
args = parser.parse_args()
small = [p for pattern in ("base-*", "*.delta.*") for p in (args.run / "checkpoints").glob(pattern)]
files = {path: head(path) for path in small}
at = [p for p, (m, _, _) in files.items() if (m["epoch"], m["batch"]) == (args.epoch, args.step)]
flat, tensors = restore(files, at[-1]) if at else sys.exit(f"{args.run}: no small checkpoint of that moment")
try:
    from blake3 import blake3
    if blake3(flat.tobytes()).hexdigest() != files[at[-1]][0]["weights"]:
        sys.exit(f"{at[-1]}: restores wrong weights")
    print("weights: as their hash says")
except ImportError:
    print("weights: not checked, as there is no blake3 module")
save_file(
    {name: flat[slice(*(i // 4 for i in t["data_offsets"]))].reshape(t["shape"]) for name, t in tensors},
    args.out,
)
