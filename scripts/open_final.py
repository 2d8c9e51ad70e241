"""Opens a weight file of fishmask in PyTorch and evaluates it on the test split.

    python scripts/open_final.py --model resnet9 --width 16 --weights runs/X/final.safetensors --data-dir data

With --logits (what `fishmask evaluate --logits` wrote for the same images) prints the largest difference from
PyTorch's, and exits with 1 when it is above 1e-3. Needs torch, safetensors and numpy.
"""
import argparse
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benches" / "peers"))
from torch_data import load  # noqa: E402
from torch_models import PARAMETERS_AT_64, make  # noqa: E402

TOLERANCE = 1e-3


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", choices=list(PARAMETERS_AT_64), required=True)
    parser.add_argument("--width", type=int, required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--data-dir", required=True)
    parser.add_argument("--logits", help="safetensors file with `logits`, f32 [N, 10]")
    parser.add_argument("--count", type=int, help="the first so many test images (default all)")
    args = parser.parse_args()

    model = make(args.model, args.width).eval()
    missing, unexpected = model.load_state_dict(load_file(args.weights), strict=False)
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    if missing or unexpected:
        sys.exit(f"{args.weights}: missing {missing}, unexpected {unexpected}")

    images, labels = load(args.data_dir, "test", args.count)
    with torch.no_grad():
        logits = torch.cat([model(x) for x in images.split(500)])
    loss = F.cross_entropy(logits, labels).item()
    accuracy = 100.0 * (logits.argmax(1) == labels).double().mean().item()
    print(f"{len(labels)} test images: loss {loss:.4f}, accuracy {accuracy:.2f}")
    if args.logits:
        theirs = load_file(args.logits)["logits"]
        if theirs.shape != logits.shape or theirs.dtype != torch.float32:
            sys.exit(f"{args.logits}: {theirs.dtype} {list(theirs.shape)}, expected f32 {list(logits.shape)}")
        difference = (theirs - logits).abs().max().item()
        print(f"largest difference of a logit: {difference:.2e}")
        if not difference <= TOLERANCE:
            sys.exit(f"above {TOLERANCE}")


if __name__ == "__main__":
    main()
