"""fishmask's `dawn` recipe in PyTorch on a GPU: what its time and accuracy are compared with.

resnet9 width 64, 24 epochs of all images, batch 512, peak rate 0.4 at epoch 5. The whole data set is on the
device; f16 by autocast (f32 master weights), channels_last, cuDNN's benchmark mode, forward and backward
through torch.compile. Compiling and the first steps, which are undone, are not counted. The last line is
JSON: seconds of training and test accuracy in percent. `--device cpu --epochs 1 --train-images 1024 --width
8` tries the script itself.
"""
import argparse
import copy
import json
import time

import torch
import torch.nn.functional as F

from torch_data import PAD, augment, load
from torch_models import NesterovSGD, make, schedule

WARM_UP = 12  # Steps that are undone.


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-dir", required=True, help="holds cifar-10-batches-bin, or is it")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--train-images", type=int)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--peak", type=float, default=0.4)
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--no-compile", action="store_true")
    args = parser.parse_args()
    device, dtype = args.device, torch.float16 if args.device == "cuda" else torch.bfloat16
    torch.manual_seed(args.seed)
    torch.backends.cudnn.benchmark = True
    images, labels = (t.to(device) for t in load(args.data_dir, "train", args.train_images))
    test_images, test_labels = (t.to(device) for t in load(args.data_dir, "test"))
    padded = F.pad(images, [PAD] * 4, mode="reflect")
    model = make("resnet9", args.width).to(device).to(memory_format=torch.channels_last)
    steps = len(images) // args.batch

    def loss_of(network, x, y):
        with torch.autocast(device, dtype=dtype):
            logits = network(x)
        return F.cross_entropy(logits.float(), y, reduction="sum")

    loss_and_graph = loss_of if args.no_compile else torch.compile(loss_of)
    prepare = augment if args.no_compile else torch.compile(augment)

    def train(network, batches, first_step, total, epochs):
        """Runs steps and adds their losses to `total`, on the device."""
        optimiser, network_steps = network[1], first_step
        network[0].train()
        for batch in batches:
            x = prepare(padded[batch]).contiguous(memory_format=torch.channels_last)
            loss = loss_and_graph(network[0], x, labels[batch])
            loss.backward()
            network_steps += 1
            optimiser.step(
                schedule(network_steps / steps, args.peak, min(5.0, 5 / 24 * epochs), epochs) / args.batch
            )
            total += loss.detach()
        return network_steps

    def sync():
        if device == "cuda":
            torch.cuda.synchronize()

    def pair(network):
        return network, NesterovSGD(network.parameters(), weight_decay=5e-4 * args.batch)

    before = copy.deepcopy(model.state_dict())
    warm = torch.randperm(len(images), device=device).split(args.batch)[: min(WARM_UP, steps)]
    train(pair(model), warm, 0, torch.zeros((), device=device), args.epochs)
    model.load_state_dict(before)
    sync()

    ours, step, seconds, hits = pair(model), 0, 0.0, 0
    for epoch in range(1, args.epochs + 1):
        sync()
        start, total = time.perf_counter(), torch.zeros((), device=device)
        batches = torch.randperm(len(images), device=device).split(args.batch)[:steps]
        step = train(ours, batches, step, total, args.epochs)
        loss = total.item() / (steps * args.batch)
        seconds += time.perf_counter() - start
        model.eval()
        with torch.no_grad(), torch.autocast(device, dtype=dtype):
            pairs = zip(test_images.split(500), test_labels.split(500))
            hits = sum(
                (model(x.contiguous(memory_format=torch.channels_last)).argmax(1) == y).sum()
                for x, y in pairs
            )
        accuracy = 100.0 * hits.item() / len(test_labels)
        print(
            f"epoch {epoch}  train loss {loss:.4f}  test accuracy {accuracy:.2f}"
            f"  train seconds {seconds:.2f}",
            flush=True,
        )
    print(json.dumps({"seconds": seconds, "test_accuracy": accuracy}))


if __name__ == "__main__":
    main()
