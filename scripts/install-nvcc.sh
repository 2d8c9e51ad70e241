#!/usr/bin/env bash
# Puts nvcc, which compiles the CUDA kernels, into .cuda/ from NVIDIA's packages on PyPI: 271 MB, no root, no
# GPU.
set -euo pipefail
cd "$(dirname "$0")/.."

packages="nvidia-cuda-nvcc==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-cuda-runtime==13.0.96
nvidia-cuda-cccl==13.0.85"

fail() {
    echo "install-nvcc.sh: $*" >&2
    exit 1
}

if [ -f .cuda/packages.txt ] && [ "$(cat .cuda/packages.txt)" = "$packages" ] &&
    .cuda/bin/nvcc --version >/dev/null; then
    echo "nvcc is in .cuda already, in the right version"
    exit 0
fi

case "$(uname -s) $(uname -m)" in
    "Linux x86_64" | "Linux aarch64") ;;
    *) fail "NVIDIA's packages are for Linux on x86_64 or aarch64, not for $(uname -s) on $(uname -m)" ;;
esac
command -v python3 >/dev/null || fail "python3 is missing: install it (Debian: python3 and python3-pip)"
python3 -m pip --version >/dev/null 2>&1 || fail "python3 has no pip: install it (Debian: python3-pip)"

# Beside its place, so that it is moved there in one step, and only when whole.
part=$(mktemp -d .cuda.XXXXXX)
trap 'rm -rf "$part"' EXIT
echo "fetching nvcc"
# A user's own settings of pip must not lead elsewhere. No words to split but the packages.
# shellcheck disable=SC2086
PIP_USER=0 PIP_ROOT_USER_ACTION=ignore PIP_DISABLE_PIP_VERSION_CHECK=1 \
    python3 -m pip install --quiet --no-deps --only-binary=:all: \
    --no-cache-dir --no-compile --target "$part" $packages || fail "pip could not fetch NVIDIA's packages"

new="$part/nvidia/cu13"
chmod +x "$new"/bin/* "$new"/nvvm/bin/*
# It works when it can preprocess its own headers and make machine code.
echo '__global__ void probe(int* to) { *to = 1; }' >"$part/probe.cu"
"$new/bin/nvcc" -arch=sm_90a -cubin -o "$part/probe.cubin" "$part/probe.cu" ||
    fail "nvcc was fetched and does not work here; it needs a C++ compiler (Debian: g++)"
echo "$packages" >"$new/packages.txt"
rm -rf .cuda
mv "$new" .cuda
# Cargo looks for nvcc again when the kernels seem new.
touch kernels
.cuda/bin/nvcc --version | tail -2 | head -1
