#!/usr/bin/env python3
"""Draws docs/accuracy-by-bytes.svg, README's picture, from the tables of benches/RESULTS.md.

    python3 scripts/plot_results.py

Accuracies are read from "Masks on real CIFAR-10". Bytes of a checkpoint are those that `fishmask checkpoint
list` prints for a delta of such a run (with velocity) and `ls -l` for a dense run's full checkpoint; they
follow from model, width and keep ratio alone. Needs Python's standard library only.
"""
import math
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BYTES = {"2%": 71_360, "10%": 335_656, "all": 3_314_440}
TICKS = {"2%": ("71 KB", "2% kept"), "10%": ("336 KB", "10% kept"), "all": ("3.3 MB", "all weights")}

# Each line: name, kind of mask, the table's column with the seeds (3 fixed, 5 anew), CSS class, marker.
LINES = [
    ("Fisher, anew each epoch", "fisher", 5, "anew", "circle"),
    ("Fisher, fixed at the start", "fisher", 3, "fixed", "square"),
    ("random, fixed at the start", "random", 3, "lot", "triangle"),
]

WIDTH, HEIGHT = 760, 430
LEFT, RIGHT, TOP, BOTTOM = 64, 30, 58, 74
X = (math.log(6_000), math.log(5_000_000))
Y = (40.0, 80.0)

STYLE = """
  text { font: 13px system-ui, "Segoe UI", Helvetica, Arial, sans-serif; fill: #1f2328 }
  .title { font-size: 15px; font-weight: 600 }
  .small { font-size: 12px; fill: #57606a }
  .grid { stroke: #d0d7de; stroke-width: 1 }
  .axis { stroke: #57606a; stroke-width: 1 }
  .line { fill: none; stroke-width: 2.5 }
  .anew { stroke: #0969da; fill: #0969da }
  .fixed { stroke: #bc4c00; fill: #bc4c00 }
  .lot { stroke: #6e7781; fill: #6e7781 }
  .line.fixed { stroke-dasharray: 9 5 }
  .line.lot { stroke-dasharray: 2 5; stroke-linecap: round }
  .line { fill: none !important }
  .seed { stroke: none; opacity: 0.45 }
  .dense { stroke: #1f2328; fill: #1f2328 }
  text.anew, text.fixed, text.lot { stroke: none }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 }
    .small { fill: #9da7b3 }
    .grid { stroke: #3d444d }
    .axis { stroke: #9da7b3 }
    .anew { stroke: #58a6ff; fill: #58a6ff }
    .fixed { stroke: #f0883e; fill: #f0883e }
    .lot { stroke: #9da7b3; fill: #9da7b3 }
    .dense { stroke: #e6edf3; fill: #e6edf3 }
    text.anew, text.fixed, text.lot { stroke: none }
  }
"""


def accuracies():
    """{(kind, keep ratio, column): [percent by seed]}; of dense runs under ("dense", "all", 0)."""
    text = (ROOT / "benches/RESULTS.md").read_text()
    section = text.split("## Masks on real CIFAR-10")[1].split("\n## ")[0]
    found = {}
    for line in section.splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if len(cells) == 7 and cells[2] == "strict":
            for column in (3, 5):
                found[cells[0], cells[1], column] = [float(value) for value in cells[column].split(",")]
    dense = re.search(r"Dense:\s+([\d., ]+\d)", section)
    found["dense", "all", 0] = [float(value) for value in dense.group(1).split(",")]
    return found


def x_of(size):
    return LEFT + (math.log(size) - X[0]) / (X[1] - X[0]) * (WIDTH - LEFT - RIGHT)


def y_of(percent):
    return TOP + (Y[1] - percent) / (Y[1] - Y[0]) * (HEIGHT - TOP - BOTTOM)


def mean(values):
    return sum(values) / len(values)


def marker(kind, x, y, css):
    if kind == "circle":
        return f'<circle class="{css}" cx="{x:.1f}" cy="{y:.1f}" r="5.5"/>'
    if kind == "square":
        return f'<rect class="{css}" x="{x - 5:.1f}" y="{y - 5:.1f}" width="10" height="10"/>'
    points = f"{x:.1f},{y - 6.5:.1f} {x - 6:.1f},{y + 5:.1f} {x + 6:.1f},{y + 5:.1f}"
    return f'<polygon class="{css}" points="{points}"/>'


def picture():
    found = accuracies()
    dense = found["dense", "all", 0]
    title = "Test accuracy against the size of a checkpoint"
    about = "CIFAR-10; resnet9, width 16; 10,000 training images, 8 epochs; means of 3 seeds (small dots)"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img"',
        f' aria-label="{title}">',
        f"<style>{STYLE}</style>",
        f'<text class="title" x="{LEFT}" y="22">{title}</text>',
        f'<text class="small" x="{LEFT}" y="41">{about}</text>',
    ]
    for percent in range(int(Y[0]), int(Y[1]) + 1, 10):
        y = y_of(percent)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4.5:.1f}" text-anchor="end">{percent}%</text>')
    bottom = HEIGHT - BOTTOM
    parts.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{bottom}" y2="{bottom}"/>')
    for ratio, (size, share) in TICKS.items():
        x = x_of(BYTES[ratio])
        parts.append(f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{bottom}" y2="{bottom + 6}"/>')
        parts.append(f'<text x="{x:.1f}" y="{bottom + 22}" text-anchor="middle">{size}</text>')
        parts.append(f'<text class="small" x="{x:.1f}" y="{bottom + 38}" text-anchor="middle">{share}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    axis = "bytes of an epoch's checkpoint, velocity included (logarithmic)"
    parts.append(f'<text class="small" x="{middle}" y="{bottom + 62}" text-anchor="middle">{axis}</text>')

    for name, kind, column, css, shape in LINES:
        points = [(BYTES[ratio], found[kind, ratio, column]) for ratio in ("2%", "10%")]
        points.append((BYTES["all"], dense))
        path = " ".join(f"{x_of(size):.1f},{y_of(mean(seeds)):.1f}" for size, seeds in points)
        parts.append(f'<polyline class="line {css}" points="{path}"/>')
        for size, seeds in points[:2]:
            for seed in seeds:
                x, y = x_of(size), y_of(seed)
                parts.append(f'<circle class="seed {css}" cx="{x:.1f}" cy="{y:.1f}" r="2.5"/>')
            parts.append(marker(shape, x_of(size), y_of(mean(seeds)), css))
        # The name, and the means at 2% and 10%, where no line passes.
        (small, at_2), (large, at_10) = points[:2]
        label = f"{name}: {mean(at_2):.1f}%"
        x, y = x_of(small) - 14, y_of(mean(at_2)) + 4.5
        parts.append(f'<text class="{css}" x="{x:.1f}" y="{y:.1f}" text-anchor="end">{label}</text>')
        places = {"anew": (-12, -6, "end"), "fixed": (12, 16, "start"), "lot": (8, -19, "start")}
        right, down, anchor = places[css]
        x, y = x_of(large) + right, y_of(mean(at_10)) + down
        text = f"{mean(at_10):.1f}%"
        parts.append(f'<text class="{css}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{text}</text>')
    x, y = x_of(BYTES["all"]), y_of(mean(dense))
    parts.append(f'<circle class="dense" cx="{x:.1f}" cy="{y:.1f}" r="5.5"/>')
    parts.append(f'<text x="{x:.1f}" y="{y - 14:.1f}" text-anchor="middle">dense {mean(dense):.1f}%</text>')
    return "\n".join(parts + ["</svg>", ""])


if __name__ == "__main__":
    path = ROOT / "docs/accuracy-by-bytes.svg"
    path.write_text(picture())
    print(path.relative_to(ROOT))
