"""Training steps a second in PyTorch on the CPU (f32), the peer of benches/train_step.rs.

A step is forward in training mode, summed cross-entropy, backward, and Nesterov SGD on all weights, on one
batch of random images that stays the same. Both memory formats are tried, and the faster one counts. Prints
one JSON line: images_per_second is the batch over the median step time.
"""
import argparse
import json
import statistics
import time

import torch
import torch.nn.functional as F

from torch_models import PARAMETERS_AT_64, NesterovSGD, make

FORMATS = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}


def step_seconds(model, images, labels, warmup, steps):
    """Seconds of each of `steps` steps, after `warmup` more."""
    optimiser = NesterovSGD(model.parameters(), weight_decay=5e-4 * len(images))
    seconds = []
    for _ in range(warmup + steps):
        start = time.perf_counter()
        F.cross_entropy(model(images), labels, reduction="sum").backward()
        # A rate so small that random labels cannot make the weights diverge; the work is the same.
        optimiser.step(1e-3 / len(images))
        seconds.append(time.perf_counter() - start)
    return seconds[warmup:]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", choices=list(PARAMETERS_AT_64), default="resnet9")
    parser.add_argument("--width", type=int, default=64, help="channels of the stem (default 64)")
    parser.add_argument("--batch", type=int, default=128, help="images a step (default 128)")
    parser.add_argument("--threads", type=int, help="PyTorch's threads (default: its own choice)")
    parser.add_argument("--warmup", type=int, default=2, help="untimed steps for each format (default 2)")
    parser.add_argument("--steps", type=int, default=8, help="timed steps for each format (default 8)")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    speed = {}
    for name, memory_format in FORMATS.items():
        model = make(args.model, args.width).to(memory_format=memory_format).train()
        images = torch.randn(args.batch, 3, 32, 32).contiguous(memory_format=memory_format)
        labels = torch.randint(0, 10, (args.batch,))
        median = statistics.median(step_seconds(model, images, labels, args.warmup, args.steps))
        speed[name] = round(args.batch / median, 2)
    best = max(speed, key=speed.get)
    print(
        json.dumps(
            {
                "framework": f"PyTorch {torch.__version__}",
                "model": args.model,
                "width": args.width,
                "batch": args.batch,
                "threads": torch.get_num_threads(),
                "steps": args.steps,
                "memory_format": best,
                "images_per_second": speed[best],
                "by_format": speed,
            }
        )
    )


if __name__ == "__main__":
    main()
