#!/usr/bin/env python3
"""Stops tiny runs at random moments as timeout(1), Slurm and LSF do, and checks that each keeps what it must.

usage: scripts/stop-at-random.py TRAIN FISHMASK [RUNS=1000] [SEED=0]

Each run trains under `timeout -s TERM T`, which signals the program and then its group; of every three,
one gets a second signal (TERM, INT, USR1 or HUP) 0 to 20 ms after a first one that this script sends
itself. A run must end with a signal's exit code and say that its checkpoint is written; its
checkpoints must verify and stand at least where its metrics do. Every tenth is resumed to its end, which
must have the bits of a run that was never stopped. A run that was stopped before training began must leave
nothing.
"""

import concurrent.futures
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

FLAGS = ("--data synthetic --recipe quick --train-images 512 --batch-size 64 --epochs 3 --width 1 "
         "--threads 1 --peak-epoch 1").split()
KINDS = {"dense": [], "masked": "--mask fisher --keep-ratio 0.2 --fisher-samples 64 --mask-every 1".split()}


def run(train, fishmask, folder, number, seed, expected):
    """Returns what happened, or raises with what was lost."""
    draw = random.Random(f"{seed} {number}")
    kind = draw.choice(sorted(KINDS))
    command = [train, *FLAGS, *KINDS[kind], "--run-dir", "run"]
    moment = draw.uniform(0.0, 1.15 * expected[kind]["seconds"])
    environment = dict(os.environ, CUDA_VISIBLE_DEVICES="")
    streams = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    options = dict(cwd=folder, env=environment, **streams)
    if number % 3 == 0:
        process = subprocess.Popen(command, **options)
        time.sleep(moment)
        process.send_signal(draw.choice([signal.SIGTERM, signal.SIGINT]))
        time.sleep(draw.uniform(0.0, 0.02))
        second = draw.choice([signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP])
        process.send_signal(second)
        out, _ = process.communicate()
        code = process.returncode
    else:
        timed = ["timeout", "-s", "TERM", f"{moment:.4f}", *command]
        timed = subprocess.run(timed, process_group=0, **options)
        out, code = timed.stdout, timed.returncode
    path = folder / "run"
    if code == 0:
        return "finished"
    if code < 0:
        # Before the program heeds signals it has nothing to lose.
        assert not out and not (path / "config.json").exists(), f"ended by signal {-code}:\n{out}"
        return "before it began"
    if not (path / "config.json").exists():
        assert "nothing is kept" in out or not out, out
        return "before training"
    assert "the checkpoint is written" in out, f"exit {code}:\n{out}"
    verified = subprocess.run([fishmask, "checkpoint", "verify", "run"], **options)
    assert verified.returncode == 0, verified.stdout
    status = json.loads((path / "status.json").read_text())
    assert status["state"] == "stopped", status
    epochs = len((path / "metrics.jsonl").read_text().splitlines())
    names = [name for name in os.listdir(path / "checkpoints") if name.startswith("epoch-")]
    newest = max((int(name[6:10]), int(name[16:21])) for name in names if "workers" not in name)
    assert newest >= (epochs, 0), f"checkpoint {newest}, metrics of {epochs} epochs"
    if number % 10 == 0:
        subprocess.run([train, "--resume", "run"], check=True, **options)
        assert (path / "final.safetensors").read_bytes() == expected[kind]["bits"], "other bits"
        return "stopped and resumed"
    return "stopped"


def main():
    train, fishmask = (str(pathlib.Path(program).resolve()) for program in sys.argv[1:3])
    runs, seed = int((sys.argv[3:] + ["1000"])[0]), int((sys.argv[4:] + ["0"])[0])
    expected, counts, lost = {}, {}, 0
    with tempfile.TemporaryDirectory() as root:
        root = pathlib.Path(root)
        for kind, flags in KINDS.items():
            began = time.monotonic()
            environment = dict(os.environ, CUDA_VISIBLE_DEVICES="")
            command = [train, *FLAGS, *flags, "--run-dir", kind]
            subprocess.run(command, cwd=root, env=environment, check=True, stdout=subprocess.DEVNULL)
            bits = (root / kind / "final.safetensors").read_bytes()
            expected[kind] = {"seconds": time.monotonic() - began, "bits": bits}

        def one(number):
            folder = root / str(number)
            folder.mkdir()
            try:
                return run(train, fishmask, folder, number, seed, expected)
            except Exception as error:
                return f"LOST, run {number}: {error}"
            finally:
                shutil.rmtree(folder)

        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            for outcome in pool.map(one, range(runs)):
                if outcome.startswith("LOST"):
                    lost += 1
                    print(outcome, flush=True)
                else:
                    counts[outcome] = counts.get(outcome, 0) + 1
    for outcome in sorted(counts):
        print(f"{counts[outcome]:5}  {outcome}")
    print(f"{lost:5}  lost, of {runs}")
    sys.exit(lost > 0)


if __name__ == "__main__":
    main()
