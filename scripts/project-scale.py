#!/usr/bin/env python3
"""Extrapolates what share of a run many workers would spend exchanging, from figures measured with a few.

    scripts/project-scale.py --step 0.050 --merge-steps 100
    scripts/project-scale.py --measured figures.json    # the same names, with _ for -, as keys of an object

Step times are those of the run's table, efficiency and local cost those of `cargo bench --bench exchange`, on
the network in question where there is one. What is assumed is printed with the result.
"""
import argparse
import json
import sys

WORKERS = (8, 64, 1024)
BANDWIDTHS = (10e9, 1e9, 100e6)
MASKS = (("dense", 1.0), ("10%", 0.1), ("2%", 0.02), ("0.5%", 0.005))
WINDOW = 1 << 20  # values that are exchanged at a time, as in src/distributed/mod.rs

FIGURES = {
    "step": (None, "seconds of one training step of one worker"),
    "merge_steps": (100, "steps between merges"),
    "weights": (21_282_122, "weights (resnet34, width 64)"),
    "statistics": (17_024, "BN running statistics, merged every time"),
    "latency": (100e-6, "seconds from a rank to another"),
    "message": (5e-6, "seconds a rank spends on one message, whatever its length"),
    "efficiency": (0.6, "share of the bandwidth that messages get"),
    "local": (1.5e-9, "seconds a worker spends on a merged value beside the network"),
}


def figures():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--measured", metavar="FILE", help="a JSON object of the figures below; flags go before it"
    )
    for name, (default, text) in FIGURES.items():
        text += "" if default is None else f" [default: {default:g}]"
        parser.add_argument(f"--{name.replace('_', '-')}", type=float, metavar="X", help=text)
    flags = vars(parser.parse_args())
    values = {name: default for name, (default, _) in FIGURES.items()}
    if flags["measured"]:
        try:
            with open(flags["measured"]) as file:
                measured = json.load(file)
        except (OSError, ValueError) as error:
            sys.exit(f"project-scale.py: {flags['measured']}: {error}")
        if not isinstance(measured, dict):
            sys.exit(f"project-scale.py: {flags['measured']}: not an object")
        for name, value in measured.items():
            if name not in values:
                sys.exit(f"project-scale.py: {flags['measured']}: {name} is none of {', '.join(values)}")
            values[name] = value
    values.update({name: flags[name] for name in values if flags[name] is not None})
    if values["step"] is None:
        parser.error("--step is needed: seconds of one training step, from the run's table")
    for name, value in values.items():
        may_be_zero = name in ("statistics", "latency", "message", "local")
        if (
            isinstance(value, bool)
            or not isinstance(value, (int, float))
            or not (value > 0 or value == 0 and may_be_zero)
        ):
            sys.exit(
                f"project-scale.py: {name} must be a number {'not below' if may_be_zero else 'above'} 0,"
                f" not {value!r}"
            )
    if values["efficiency"] > 1:
        sys.exit("project-scale.py: efficiency is a share, at most 1")
    return values


def exchange(f, workers, values):
    """Bytes that a worker sends, and seconds beside sending them, to merge a vector of so many values."""
    windows = -(-int(values) // WINDOW)
    sent = 2 * 4 * values * (workers - 1) / workers
    # Parts out, sums back; in each the messages of a window leave one after the other.
    return sent, windows * 2 * (workers - 1) * f["message"] + 2 * f["latency"] + f["local"] * values


def gather(f, workers, values):
    """Likewise, to gather so many values of every worker."""
    sent = 4 * values * (workers - 1)
    return sent, (workers - 1) * f["message"] + f["latency"] + f["local"] * values * workers


def merge(f, workers, ratio, interleaved=False):
    """Bytes and seconds beside sending them of a merge: of kept weights and of running statistics."""
    kept = gather if interleaved else exchange
    parts = kept(f, workers, f["weights"] * ratio), exchange(f, workers, f["statistics"])
    return [sum(part) for part in zip(*parts)]


def rate(bits):
    for unit, name in ((1e9, "Gb/s"), (1e6, "Mb/s")):
        if bits >= unit:
            return f"{bits / unit:,.3g} {name}"
    return f"{bits / 1e3:,.3g} kb/s"


def main():
    f = figures()
    training = f["step"] * f["merge_steps"]
    print("Assumed:")
    for name, (_, text) in FIGURES.items():
        print(f"  {name.replace('_', '-'):<12} {f[name]:>12g}  {text}")
    print("  A worker has one link of the bandwidth named, both ways at once, and the network between links")
    print("  carries all of them; workers train equally fast, none waits for another; nothing is exchanged")
    print("  while training goes on. `same` masks and dense: a worker sends 2 (W - 1) / W values for each")
    print("  that is merged; interleaved: W - 1.")
    print("  Checkpoints, masks' selection and evaluation are left out.\n")

    print(f"Share of time spent exchanging, {training:g} s of training between merges")
    names = [name for name, _ in MASKS] + [f"{name} int." for name, ratio in MASKS if ratio < 1]
    print(f"{'workers':>7} {'network':>9}" + "".join(f"{name:>11}" for name in names))
    for workers in WORKERS:
        for bits in BANDWIDTHS:
            row = []
            for interleaved in (False, True):
                for _, ratio in MASKS:
                    if interleaved and ratio == 1.0:
                        continue
                    if interleaved and workers * ratio > 1:
                        row.append("-")  # the masks would keep more than the net has
                        continue
                    sent, fixed = merge(f, workers, ratio, interleaved)
                    seconds = fixed + 8 * sent / (bits * f["efficiency"])
                    row.append(f"{100 * seconds / (seconds + training):.2f}%")
            print(f"{workers:>7} {rate(bits):>9}" + "".join(f"{share:>11}" for share in row))

    print("\nMerging stops scaling where an exchange takes as long as the training between merges: at")
    for workers in WORKERS:
        row = []
        for name, ratio in MASKS:
            sent, fixed = merge(f, workers, ratio)
            left = training - fixed
            needs = rate(8 * sent / (left * f["efficiency"])) if left > 0 else "none would do"
            row.append(f"{name} {needs}")
        print(f"{workers:>7} workers: " + ", ".join(row))


if __name__ == "__main__":
    main()
