"""The operations of `cargo bench --bench kernels` through PyTorch: channels_last, f16, cuDNN's benchmark
mode.

Takes a JSON file of [{name, shape}]; prints {"seconds": {name: median seconds of a call}, "product": FLOP/s
of a large f16 matrix product, "copy": bytes/s read and written by a large copy}. Times are of CUDA graphs of
several calls on rotating inputs, so that neither launches nor a warm cache count.

`--device cpu` tries the script itself; its times mean nothing.
"""
import argparse
import json
import statistics
import sys
import time

import torch
import torch.nn.functional as F

ROTATION = 512e6  # Bytes in use together, so that no cache holds what a call reads.
SAMPLES = 15


def noise(*shape, device):
    return torch.randn(*shape, device=device, dtype=torch.float32).half()


def images(n, c, h, w, device):
    return noise(n, c, h, w, device=device).contiguous(memory_format=torch.channels_last)


def conv(s, device):
    x = images(s["n"], s["c"], s["h"], s["w"], device)
    weight = images(s["k"], s["c"], s["r"], s["r"], device) * 0.05
    p = (s["h"] + 2 * s["pad"] - s["r"]) // s["stride"] + 1
    q = (s["w"] + 2 * s["pad"] - s["r"]) // s["stride"] + 1
    dy = images(s["n"], s["k"], p, q, device)
    stride, pad = [s["stride"]] * 2, [s["pad"]] * 2
    if s["op"] == "fprop":
        call = lambda: F.conv2d(x, weight, stride=stride, padding=pad)
    else:
        mask = [s["op"] == "dgrad", s["op"] == "wgrad", False]
        call = lambda: torch.ops.aten.convolution_backward(
            dy, x, weight, None, stride, pad, [1, 1], False, [0, 0], 1, mask
        )
    return call, 2 * (x.numel() + dy.numel() + weight.numel())


def score(s, device):
    """Squares of each sample's own wgrad, 32 of them at a time, as a batched product of x's patches."""
    x = images(s["n"], s["c"], s["h"], s["w"], device)
    p = (s["h"] + 2 * s["pad"] - s["r"]) // s["stride"] + 1
    q = (s["w"] + 2 * s["pad"] - s["r"]) // s["stride"] + 1
    dy = images(s["n"], s["k"], p, q, device)
    scores = torch.zeros(s["k"], s["c"] * s["r"] ** 2, device=device)

    def call():
        for some_x, some_dy in zip(x.split(32), dy.split(32)):
            patches = F.unfold(some_x, s["r"], padding=s["pad"], stride=s["stride"])
            gradients = some_dy.flatten(2) @ patches.transpose(1, 2)
            scores.add_(gradients.float().square_().sum(0))

    return call, 2 * (x.numel() + dy.numel() + s["n"] * scores.numel())


def norm(s, device):
    x = images(s["n"], s["c"], s["h"], s["w"], device).requires_grad_()
    second = images(s["n"], s["c"], s["h"], s["w"], device).requires_grad_() if s["residual"] else None
    weight = torch.rand(s["c"], device=device).requires_grad_()
    bias = torch.rand(s["c"], device=device).requires_grad_()

    def forward():
        y = F.batch_norm(x, None, None, weight, bias, training=True)
        y = F.relu(y) if s["relu"] else y
        y = y + second if s["residual"] else y
        y = F.relu(y) if s["relu_sum"] else y
        if s["pool"]:
            size, stride, pad = s["pool"]
            y = F.max_pool2d(y, size, stride, pad)
        return y

    y = forward()
    size = 2 * (x.numel() * (2 if s["residual"] else 1) + y.numel())
    if s["op"] == "norm_forward":
        return forward, size
    dy = torch.randn_like(y)
    wanted = [t for t in (x, second, weight, bias) if t is not None]
    return lambda: torch.autograd.grad(y, wanted, dy, retain_graph=True), 2 * size


def augment(s, device):
    """Crop, flip, cutout and normalise a batch of a resident u8 data set, as vectorised code does it."""
    n = s["n"]
    data = torch.randint(0, 256, (64 * n, 3, 32, 32), device=device, dtype=torch.uint8)
    mean = torch.tensor([125.31, 122.95, 113.87], device=device).view(1, 3, 1, 1)
    std = torch.tensor([62.99, 62.09, 66.70], device=device).view(1, 3, 1, 1)
    index = torch.randperm(64 * n, device=device)[:n]
    rows, columns = torch.arange(32, device=device).view(1, 32), torch.arange(32, device=device).view(1, 32)
    batch = torch.arange(n, device=device).view(n, 1, 1)

    def reflect(i):
        i = (i - 4).abs()
        return torch.where(i > 31, 62 - i, i)

    def call():
        y, x = (torch.randint(0, 9, (n, 1), device=device) for _ in range(2))
        flip = torch.rand(n, 1, device=device) < 0.5
        r = reflect(rows + y)
        c = reflect(torch.where(flip, 31 - columns, columns) + x)
        pixels = data[index].permute(0, 2, 3, 1)[batch, r.unsqueeze(2), c.unsqueeze(1)].permute(0, 3, 1, 2)
        out = (pixels.float() - mean) / std
        top, left = (torch.randint(0, 25, (n, 1), device=device) for _ in range(2))
        cut = ((rows >= top) & (rows < top + 8)).unsqueeze(2) & (
            (columns >= left) & (columns < left + 8)
        ).unsqueeze(1)
        return out.masked_fill(cut.unsqueeze(1), 0).half().contiguous(memory_format=torch.channels_last)

    return call, n * 3072 * 3


def other(s, device):
    op, n = s["op"], s["n"]
    if op == "average_pool":
        x = images(n, s["c"], s["h"], s["w"], device)
        return (lambda: x.mean((2, 3))), 2 * x.numel()
    if op == "linear":
        x, w = noise(n, s["c"], device=device), noise(s["k"], s["c"], device=device)
        return (lambda: F.linear(x, w) * 0.125), 2 * x.numel()
    if op == "loss":
        x = noise(n, s["classes"], device=device).requires_grad_()
        labels = torch.zeros(n, dtype=torch.long, device=device)
        return (
            lambda: torch.autograd.grad(F.cross_entropy(x.float(), labels, reduction="sum"), x),
            2 * x.numel(),
        )
    if op == "sgd":
        w = torch.randn(n, device=device)
        w.grad = torch.randn(n, device=device)
        fused = {"fused": True} if device == "cuda" else {}
        optimiser = torch.optim.SGD([w], lr=1e-6, momentum=0.9, nesterov=True, weight_decay=5e-4, **fused)
        return optimiser.step, 22 * n
    if op == "top_k":
        scores = torch.rand(n, device=device) ** 8
        # The indices in ascending order, as ours are.
        return (lambda: torch.topk(scores, s["k"], sorted=False).indices.sort().values), 4 * n
    raise SystemExit(f"there is no operation {op}")


def make(s, device):
    if s["op"] in ("fprop", "dgrad", "wgrad"):
        return conv(s, device)
    if s["op"] == "score":
        return score(s, device)
    if s["op"].startswith("norm_"):
        return norm(s, device)
    return augment(s, device) if s["op"] == "augment" else other(s, device)


def seconds(build, device):
    """Median seconds of a call of `build()`'s function, over rotating inputs."""
    call, size = build()
    sets = max(1, min(8, int(ROTATION / size) + 1)) if device == "cuda" else 1
    calls = [call] + [build()[0] for _ in range(sets - 1)]
    if device != "cuda":
        began = time.perf_counter()
        calls[0]()
        return time.perf_counter() - began
    rounds = max(1, min(32, int(2e9 / size / sets)))
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(3):
            for call in calls:
                call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph, stream=stream):
            for _ in range(rounds):
                for call in calls:
                    call()
        run = graph.replay
    except RuntimeError:
        # What cannot be captured is timed as it is launched.
        torch.cuda.synchronize()

        def run():
            for _ in range(rounds):
                for call in calls:
                    call()

    run()
    samples = []
    for _ in range(SAMPLES):
        began, ended = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        began.record()
        run()
        ended.record()
        torch.cuda.synchronize()
        samples.append(began.elapsed_time(ended) / 1e3 / rounds / sets)
    return statistics.median(samples)


def ceilings(device):
    side, elements = (8192, 1 << 31) if device == "cuda" else (256, 1 << 20)
    a, b = noise(side, side, device=device), noise(side, side, device=device)
    product = 2 * side**3 / seconds(lambda: (lambda: a @ b, 6 * side**2), device)
    del a, b
    x = torch.randint(0, 256, (elements,), dtype=torch.uint8, device=device)
    y = torch.empty_like(x)
    return product, 2 * elements / seconds(lambda: (lambda: y.copy_(x), 2 * elements), device)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shapes")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    arguments = parser.parse_args()
    device = arguments.device
    if device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("PyTorch finds no GPU here")
    torch.backends.cudnn.benchmark = True
    with open(arguments.shapes) as file:
        cases = json.load(file)
    product, copy = ceilings(device)
    found = {}
    for case in cases:
        found[case["name"]] = seconds(lambda: make(case["shape"], device), device)
        if device == "cuda":
            torch.cuda.empty_cache()
    json.dump({"seconds": found, "product": product, "copy": copy}, sys.stdout)


if __name__ == "__main__":
    main()
