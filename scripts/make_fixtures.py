"""Writes tests/fixtures/*.safetensors: what PyTorch computes for each operation and for the three small nets.

    python scripts/make_fixtures.py [--out tests/fixtures]

Needs torch (2.11 made the committed files), safetensors and numpy; the CPU is enough (two minutes). All is
computed in f64 from inputs that f32 holds exactly. Inputs and the nets' gradients are stored as f32 (so a
stored gradient is off by up to 2^-24 of itself), everything else as f64.

`ops`: `<case>.<tensor>`, with dy the incoming gradient and dx, dw, db the outgoing ones, in PyTorch's
layouts.
`<model>_w<width>`:
    images, labels          the batch
    before.<name>           parameters and running statistics
    train.logits, .loss     with batch statistics; the loss is summed
    gradient.<name>         of that loss
    running.<name>          running statistics after that forward pass
    eval.logits, .loss      with the running statistics of `before`
    steps.losses            training losses of three optimiser steps on that batch, and then a fourth loss
    steps.projection        for each parameter, the sum of (after - before) * cos(1 + index in the parameter)
    steps.<name>            a few parameters after the three steps
    margin                  the least distance of a ReLU's input from 0, and of a max pool's two largest, in
                            all of the above: an f32 computation off by less takes the same branches
`fisher`: scores of the same nets and images (in `before`), one sample at a time; for each parameter
    <model>.<target>.<power>.<statistics>   [parameters, 2]: their sum, and that of score * cos(1 + index)
    target label or expect, power square or absolute, statistics running or sample (a batch of one)
    <model>.margin          as above
"""
import argparse
import sys
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benches" / "peers"))
from torch_models import NesterovSGD, make, schedule  # noqa: E402

NETS = {"resnet9": (4, ["prep_conv.weight", "layer3_bn.weight", "linear.weight"]),
        "resnet18": (2, ["conv1.weight", "layer3.0.downsample.0.weight", "bn1.bias", "fc.bias"]),
        "resnet34": (2, ["conv1.weight", "layer4.2.bn2.weight", "fc.weight", "fc.bias"])}
BATCH, STEPS, STEPS_PER_EPOCH = 3, 3, 2
SEEDS = 40


def normal(generator, *shape, scale=1.0, shift=0.0):
    """Normal numbers that f32 holds exactly, as f64."""
    return (torch.randn(shape, generator=generator) * scale + shift).double()


def ops():
    g = torch.Generator().manual_seed(1)
    out = {}

    def case(name, f, single=(), **inputs):
        """Runs f on the inputs, then backward from a random gradient. `single`: inputs without a gradient."""
        for key, t in inputs.items():
            out[f"{name}.{key}"] = t.detach().clone()
            if key not in single:
                t.requires_grad_()
        y = f(**inputs)
        dy = normal(g, *y.shape)
        y.backward(dy)
        out[f"{name}.y"], out[f"{name}.dy"] = y.detach(), dy
        for key, t in inputs.items():
            if key not in single:
                out[f"{name}.d{key}"] = t.grad

    for k, stride in [(3, 1), (3, 2), (1, 2)]:
        case(f"conv_{k}x{k}_s{stride}", lambda x, w: F.conv2d(x, w, stride=stride, padding=k // 2),
             x=normal(g, 2, 3, 8, 7), w=normal(g, 5, 3, k, k))

    def batch_norm_inputs(c):
        return {"x": normal(g, 4, c, 6, 5, scale=2.0, shift=0.5), "w": normal(g, c), "b": normal(g, c)}

    mean, var = normal(g, 3), normal(g, 3).abs().float().add(0.25).double()
    for name, training in [("bn_batch", True), ("bn_running", False)]:
        out[f"{name}.mean"], out[f"{name}.var"] = mean, var
        m, v = mean.clone(), var.clone()
        case(name, lambda x, w, b: F.batch_norm(x, m, v, w, b, training, momentum=0.1, eps=1e-5),
             **batch_norm_inputs(3))
        if training:
            out[f"{name}.mean_after"], out[f"{name}.var_after"] = m, v
    # A batch of one for each sample is what instance_norm computes.
    case("bn_sample", lambda x, w, b: F.instance_norm(x, weight=w, bias=b, eps=1e-5), **batch_norm_inputs(3))

    for k, stride, pad in [(2, 2, 0), (4, 4, 0), (3, 2, 1)]:
        # Small integers: windows with several equal maxima, where the first must take the gradient.
        x = torch.randint(-2, 3, (2, 3, 8, 12), generator=g).double()
        case(f"max_pool_{k}s{stride}p{pad}", lambda x: F.max_pool2d(x, k, stride, pad), x=x)
    case("average_pool", lambda x: x.mean((2, 3)), x=normal(g, 2, 5, 3, 4))
    case("relu", lambda x: F.relu(x), x=torch.tensor([[-1.5, 0.0, 2.0, -0.0, 1e-30, -1e-30]]).double())
    case("linear", lambda x, w, b: F.linear(x, w, b), x=normal(g, 3, 7), w=normal(g, 10, 7), b=normal(g, 10))

    for name, smoothing in [("cross_entropy", 0.0), ("cross_entropy_smoothed", 0.2)]:
        x, labels = normal(g, 6, 10, scale=3.0), torch.randint(0, 10, (6,), generator=g)
        out[f"{name}.x"] = x.clone()
        x.requires_grad_()
        loss = F.cross_entropy(x, labels, reduction="sum", label_smoothing=smoothing)
        loss.backward()
        correct = (x.argmax(1) == labels).sum()
        out |= {f"{name}.labels": labels, f"{name}.loss": loss.detach()[None], f"{name}.dx": x.grad,
                f"{name}.correct": correct[None]}
    inputs = {"x", "w", "b", "dy", "mean", "var"}
    return {k: t.float() if k.split(".")[1] in inputs else t for k, t in out.items()}


@contextmanager
def margins():
    """Within, collects how far each ReLU and max pool is from choosing otherwise."""
    found = []
    relu, pool = F.relu, F.max_pool2d

    def watched_relu(x):
        found.append(x.detach().abs().min().item())
        return relu(x)

    def watched_pool(x, k, stride=None, padding=0):
        padded = F.pad(x.detach(), [padding] * 4, value=float("-inf"))
        windows = padded.unfold(2, k, stride or k).unfold(3, k, stride or k).flatten(4)
        first, second = windows.topk(2).values.unbind(-1)
        # Where all are 0, the ReLU before the pool passes no gradient on, whichever of them is chosen.
        found.append((first - second)[first > 0].min().item())
        return pool(x, k, stride, padding)

    F.relu, F.max_pool2d = watched_relu, watched_pool
    try:
        yield found
    finally:
        F.relu, F.max_pool2d = relu, pool


def net(name, width, kept, seed):
    torch.manual_seed(seed)
    g = torch.Generator().manual_seed(seed)
    model = make(name, width)
    with torch.no_grad():
        for key, t in model.state_dict().items():
            # Away from 1 and 0, so that a mix-up of weight, bias and statistics shows.
            if "bn" in key or "downsample.1" in key:
                if key.endswith(("weight", "running_var")):
                    t.copy_(torch.rand(t.shape, generator=g) + 0.5)
                elif key.endswith(("bias", "running_mean")):
                    t.copy_(torch.randn(t.shape, generator=g) * 0.2)
    model = model.double()
    images, labels = normal(g, BATCH, 3, 32, 32), torch.randint(0, 10, (BATCH,), generator=g)

    def state():
        return {k: t.detach().clone() for k, t in model.state_dict().items() if "num_batches" not in k}

    def forward():
        logits = model(images)
        return logits, F.cross_entropy(logits, labels, reduction="sum")

    before = state()
    out = {"images": images, "labels": labels} | {f"before.{k}": t for k, t in before.items()}
    with margins() as found:
        with torch.no_grad():
            logits, loss = model.eval() and forward()
        out |= {"eval.logits": logits, "eval.loss": loss[None]}
        model.train()
        optimiser = NesterovSGD(model.parameters(), weight_decay=5e-4 * BATCH)
        losses = []
        for step in range(1, STEPS + 2):
            logits, loss = forward()
            losses.append(loss.item())
            if step > STEPS:
                break
            loss.backward()
            if step == 1:
                out |= {"train.logits": logits.detach(), "train.loss": loss.detach()[None]}
                out |= {f"gradient.{k}": p.grad.float() for k, p in model.named_parameters()}
                out |= {f"running.{k}": t for k, t in state().items() if "running" in k}
            optimiser.step(schedule(step / STEPS_PER_EPOCH) / BATCH)
    after = state()
    projection = []
    for key, _ in model.named_parameters():
        moved = (after[key] - before[key]).flatten()
        projection.append((moved * torch.arange(1, len(moved) + 1).double().cos()).sum())
    out |= {
        "steps.losses": torch.tensor(losses, dtype=torch.float64),
        "steps.projection": torch.stack(projection),
    }
    out |= {f"steps.{k}": after[k] for k in kept}
    out["margin"] = torch.tensor([min(found)], dtype=torch.float64)
    return {k: t.float() if k == "images" or k.startswith("before.") else t for k, t in out.items()}


def scores(name, stored, dtype):
    """One sample at a time, as docs/METHOD.md says ("Masks"); each gradient in `dtype`, their sums in f64."""
    model = make(name, NETS[name][0])
    model.load_state_dict(
        {k.removeprefix("before."): t for k, t in stored.items() if k.startswith("before.")}, strict=False
    )
    model = model.to(dtype)
    out = {}
    for statistics in ["running", "sample"]:
        model.train(statistics == "sample")
        for target in ["label", "expect"]:
            squares = [torch.zeros_like(p).double() for p in model.parameters()]
            absolutes = [torch.zeros_like(p).double() for p in model.parameters()]
            for image, label in zip(stored["images"].to(dtype), stored["labels"].tolist()):
                logs = F.log_softmax(model(image[None]), 1)[0]
                classes = (
                    [(label, 1.0)] if target == "label" else list(enumerate(logs.detach().exp().tolist()))
                )
                for c, probability in classes:
                    gradients = torch.autograd.grad(-logs[c], list(model.parameters()), retain_graph=True)
                    for square, absolute, g in zip(squares, absolutes, gradients):
                        square += probability * g.double() ** 2
                        absolute += probability * g.double().abs()
            out |= {(target, "square", statistics): squares, (target, "absolute", statistics): absolutes}
    return out


def fisher(name, stored):
    with margins() as found:
        exact = scores(name, stored, torch.float64)
    out = {}
    for key, of_parameters in exact.items():
        rows = [torch.stack([s.sum(), (s.flatten() * torch.arange(1, s.numel() + 1).double().cos()).sum()])
                for s in of_parameters]
        out[".".join([name, *key])] = torch.stack(rows)
    out[f"{name}.margin"] = torch.tensor([min(found)], dtype=torch.float64)
    print(f"fisher of {name}: margin {min(found):.2e}")
    # What can be asked of an f32 computation: how far PyTorch's own is off.
    single = scores(name, stored, torch.float32)
    for statistics in ["running", "sample"]:
        off = max(((a - e).norm() / e.norm()).item() for key in exact if key[2] == statistics
                  for a, e in zip(single[key], exact[key]))
        print(
            f"    PyTorch in f32, {statistics} statistics: a parameter's scores are off by up to {off:.1e}"
            " of their length"
        )
    return out


def main():
    parser = argparse.ArgumentParser(description="Writes the PyTorch fixtures of the tests.")
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).resolve().parent.parent / "tests" / "fixtures"
    )
    folder = parser.parse_args().out
    folder.mkdir(parents=True, exist_ok=True)
    made = {"ops": ops()}
    for name, (width, kept) in NETS.items():
        # Of several seeds, the one whose ReLUs and pools are furthest from a branch that f32 might take
        # otherwise.
        best = max(range(SEEDS), key=lambda seed: net(name, width, kept, seed)["margin"].item())
        made[f"{name}_w{width}"] = net(name, width, kept, best)
        print(f"{name}: seed {best}, margin {made[f'{name}_w{width}']['margin'].item():.2e}")
    made["fisher"] = {}
    for name, (width, _) in NETS.items():
        made["fisher"] |= fisher(name, made[f"{name}_w{width}"])
    for name, tensors in made.items():
        path = folder / f"{name}.safetensors"
        metadata = {"made_by": "scripts/make_fixtures.py", "torch": torch.__version__.split("+")[0]}
        save_file({k: t.contiguous() for k, t in tensors.items()}, path, metadata)
        print(f"{path}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
