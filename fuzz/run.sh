#!/usr/bin/env bash
# Feeds each reader mutated files for a while, and fails if one panics or takes what it must refuse.
# usage: fuzz/run.sh [SECONDS=30] [TARGET...]     FUZZ_SEED=N: other mutations than those of seed 0
set -euo pipefail
cd "$(dirname "$0")"
# The kernels are not read from files: none need be compiled for GPUs.
FISHMASK_CUDA_ARCHS= cargo build --release --quiet
exec "${CARGO_TARGET_DIR:-target}/release/fishmask-fuzz" "$@"
