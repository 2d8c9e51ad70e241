"""Fisher scores in PyTorch (f32): the peer of benches/fisher.rs.

Scores are the sum over samples of each sample's squared gradient, with batch norm's running statistics, of
random images. `loop` is the authors' way: a forward and a backward pass of batch 1 for each sample. `vmap` is
torch.func's: the gradients of several samples at once, then squared and summed; the fastest of several
numbers of them counts. `topk` is torch.topk for the largest share of as many random scores as the model has
weights. Prints one JSON line: samples a second of the first two, seconds of the last (medians).
"""
import argparse
import json
import statistics
import time

import torch
import torch.nn.functional as F
from torch.func import functional_call, grad, vmap

from torch_models import PARAMETERS_AT_64, make


def timed(device, work, repeats):
    """Median seconds of `work`, after once to warm up."""
    seconds = []
    for _ in range(1 + repeats):
        start = time.perf_counter()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", choices=list(PARAMETERS_AT_64), default="resnet34")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--samples", type=int, default=16, help="scored in each repeat (default 16)")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--keep-ratio", type=float, default=0.02)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    device = args.device
    model = make(args.model, args.width).eval().to(device)
    images = torch.randn(args.samples, 3, 32, 32, device=device)
    labels = torch.randint(0, 10, (args.samples,), device=device)
    parameters = dict(model.named_parameters())
    buffers = dict(model.named_buffers())
    scores = [torch.zeros_like(p) for p in parameters.values()]

    def loop():
        for i in range(args.samples):
            loss = F.cross_entropy(model(images[i : i + 1]), labels[i : i + 1])
            for score, g in zip(scores, torch.autograd.grad(loss, list(parameters.values()))):
                score += g * g

    def loss(parameters, image, label):
        return F.cross_entropy(functional_call(model, (parameters, buffers), image[None]), label[None])

    by_sample = vmap(grad(loss), in_dims=(None, 0, 0))

    def batched(size):
        for some, labelled in zip(images.split(size), labels.split(size)):
            for score, g in zip(scores, by_sample(parameters, some, labelled).values()):
                score += (g * g).sum(0)

    speeds = {"loop": args.samples / timed(device, loop, args.repeats)}
    sizes = [size for size in ([2, 4, 8] if device == "cpu" else [8, 16, 32]) if size <= args.samples]
    speeds["vmap"] = max(
        args.samples / timed(device, lambda size=size: batched(size), args.repeats) for size in sizes
    )
    n = sum(p.numel() for p in parameters.values())
    random = torch.rand(n, device=device)
    kept = int(n * args.keep_ratio)
    speeds["topk"] = timed(device, lambda: torch.topk(random, kept, sorted=False), args.repeats)
    print(
        json.dumps(
            {"framework": f"PyTorch {torch.__version__}", "model": args.model, "width": args.width, **speeds}
        )
    )


if __name__ == "__main__":
    main()
