"""fishmask's `quick` recipe in PyTorch on the CPU: what its test accuracy is compared with.

resnet9 width 16, the first 10,000 training images, batch 128, 8 epochs, learning rate 0.2 at 20% of them,
random crop of the reflect-padded image, flip, 8x8 cutout, Nesterov SGD on the summed loss. One line an epoch,
accuracy in percent of all test images.
"""
import argparse
import time

import torch
import torch.nn.functional as F

from torch_data import PAD, augment, load
from torch_models import NesterovSGD, make, schedule

@torch.no_grad()
def accuracy(model, images, labels):
    model.eval()
    hits = sum((model(x).argmax(1) == y).sum().item() for x, y in zip(images.split(500), labels.split(500)))
    return 100.0 * hits / len(labels)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-dir", required=True, help="holds cifar-10-batches-bin, or is it")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--stop-after", type=int, help="end after so many epochs of the schedule")
    parser.add_argument("--train-images", type=int, default=10_000)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--peak", type=float, default=0.2)
    parser.add_argument("--threads", type=int)
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    images, labels = load(args.data_dir, "train", args.train_images)
    test = load(args.data_dir, "test")
    padded = F.pad(images, [PAD] * 4, mode="reflect")
    model = make("resnet9", args.width).to(memory_format=torch.channels_last)
    optimiser = NesterovSGD(model.parameters(), weight_decay=5e-4 * args.batch)
    steps_per_epoch, step, seconds = len(images) // args.batch, 0, 0.0
    for epoch in range(1, (args.stop_after or args.epochs) + 1):
        start, total = time.perf_counter(), 0.0
        model.train()
        for batch in torch.randperm(len(images)).split(args.batch)[:steps_per_epoch]:
            x = augment(padded[batch]).contiguous(memory_format=torch.channels_last)
            loss = F.cross_entropy(model(x), labels[batch], reduction="sum")
            loss.backward()
            step += 1
            rate = schedule(step / steps_per_epoch, args.peak, 0.2 * args.epochs, args.epochs)
            optimiser.step(rate / args.batch)
            total += loss.item()
        seconds += time.perf_counter() - start
        mean = total / (steps_per_epoch * args.batch)
        test_accuracy = accuracy(model, *test)
        print(
            f"epoch {epoch}  train loss {mean:.4f}  test accuracy {test_accuracy:.2f}"
            f"  train seconds {seconds:.1f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
