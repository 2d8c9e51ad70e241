#!/usr/bin/env bash
# Checks and measures fishmask on this machine's GPU, from the folder that bundle-gpu.sh made. Needs a driver;
# uses python3's PyTorch and compute-sanitizer where they are installed.
#
#   ./run-gpu-checks.sh DATA_DIR [RESULTS]      CIFAR-10 in DATA_DIR; logs go to RESULTS (default: results)
#
# Prints a short table last, and exits with 1 if anything failed. ONLY="tests sanitizer bench dawn" picks
# parts.
set -uo pipefail
if [ $# -lt 1 ] || [ $# -gt 2 ]; then
    echo "usage: run-gpu-checks.sh DATA_DIR [RESULTS]" >&2
    exit 2
fi
[ -d "$1" ] || { echo "run-gpu-checks.sh: there is no folder $1" >&2; exit 2; }
data=$(cd "$1" && pwd)
mkdir -p "${2:-results}" || exit 2
results=$(cd "${2:-results}" && pwd)
cd "$(dirname "$0")" || exit 2
export CARGO_MANIFEST_DIR="$PWD" REQUIRE_CUDA=1
only=${ONLY:-tests sanitizer bench dawn}
least=93.5 # Percent. Of cifar10-fast's own 50 runs the median has 94.08, and 15 have less than 94.
table=""
failed=0

# record NAME SECONDS RESULT
record() {
    table+=$(printf '%-34s %7s s  %s' "$1" "$2" "$3")$'\n'
    case $3 in failed*) failed=1 ;; esac
}

# run NAME LOG COMMAND...: the command with its output in a log; notes whether it ended well.
run() {
    local name=$1 log=$results/$2 began=$SECONDS
    shift 2
    echo "== $name"
    if "$@" >"$log" 2>&1; then
        record "$name" $((SECONDS - began)) passed
    else
        local code=$?
        tail -n 15 "$log"
        record "$name" $((SECONDS - began)) "failed with $code, see $log"
        return 1
    fi
}

wants() { [[ " $only " == *" $1 "* ]]; }

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# bin, checks and benches. Python's tarfile where there is no xz.
if [ ! -d checks ]; then
    tar -xJf programs.tar.xz 2>/dev/null || python3 -m tarfile -e programs.tar.xz . || {
        echo "run-gpu-checks.sh: programs.tar.xz cannot be unpacked: install xz or python3" >&2
        exit 2
    }
fi

if wants tests; then
    for program in checks/*; do
        name=$(basename "$program")
        mapfile -t tests < <("$program" --list 2>/dev/null | sed -n 's/^\(.*_cuda\): test$/\1/p')
        run "tests: $name" "test-$name.log" "$program" --exact "${tests[@]}"
    done
fi

if wants sanitizer; then
    if command -v compute-sanitizer >/dev/null; then
        for tool in memcheck racecheck initcheck; do
            rm -rf "$scratch/run"
            run "compute-sanitizer $tool" "sanitizer-$tool.log" \
                compute-sanitizer --tool "$tool" --error-exitcode 9 \
                bin/train --device cuda --recipe quick --width 8 --train-images 512 --epochs 1 \
                --data-dir "$data" --offline --run-dir "$scratch/run"
        done
    else
        record "compute-sanitizer" 0 "not installed here"
    fi
fi

if wants bench; then
    if python3 -c 'import torch' 2>/dev/null; then
        export PYTHON=python3
    fi
    run "bench: kernels" kernels.txt benches/kernels && cat "$results/kernels.txt"
    run "bench: scoring" fisher.txt benches/fisher --device cuda --samples 1024 && cat "$results/fisher.txt"
    run "bench: sparse steps" sparse.txt benches/sparse_step --device cuda --batch 512 &&
        cat "$results/sparse.txt"
fi

if wants dawn; then
    rm -rf "$scratch/dawn"
    if run "dawn, 24 epochs" dawn.txt bin/train --device cuda --recipe dawn --data-dir "$data" --offline \
        --run-dir "$scratch/dawn"; then
        tail -n 2 "$results/dawn.txt"
        last=$(tail -n 1 "$results/dawn.txt")
        if awk -v least="$least" '{ sub("%", "", $1); exit !($1 + 0 >= least) }' <<<"$last"; then
            record "dawn's accuracy" 0 "${last%%;*}"
        else
            record "dawn's accuracy" 0 "failed: ${last%%;*}, less than $least%"
        fi
        cp "$scratch/dawn/metrics.jsonl" "$results/dawn.jsonl"
    fi
fi

echo
echo "fishmask $(cat COMMIT)"
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>/dev/null
printf '%s' "$table"
exit $failed
