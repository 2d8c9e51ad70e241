#!/usr/bin/env bash
# Builds and packs what a machine with a GPU and a driver, but no Rust, needs to check and measure fishmask:
# the programs, the tests that use a GPU, the kernels' bench, its peers in PyTorch, and run-gpu-checks.sh. One
# folder, under 40 MB.
#
#   scripts/bundle-gpu.sh [FOLDER]      FOLDER defaults to target/gpu-bundle and is replaced
#
# FISHMASK_CUDA_ARCHS=90a, say, makes it smaller by leaving out other GPUs' kernels.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${1:-target/gpu-bundle}
limit=$((40 * 1000 * 1000))

fail() {
    echo "bundle-gpu.sh: $*" >&2
    exit 1
}

# Prints the executables that a cargo command makes, as "name path".
executables() {
    "$@" --no-run 2>&1 | tee >(cat >&2) | sed -n 's/^ *Executable .*(\(.*\/\([^/]*\)-[0-9a-f]*\))$/\2 \1/p'
}

if [ -e "$folder" ] && [ ! -e "$folder/COMMIT" ]; then
    fail "$folder exists and is no bundle; name another folder"
fi
cargo build --release --bins
tests=$(executables cargo test --release --tests)
benches=$(executables cargo bench --bench kernels --bench fisher --bench sparse_step)

new="$folder.new"
rm -rf "$new"
mkdir -p "$new/bin" "$new/checks" "$new/benches/peers" "$new/tests"
for program in train fishmask; do
    strip -o "$new/bin/$program" "target/release/$program"
done
while read -r name path; do
    # Only what a GPU adds to: the rest runs wherever there is Rust.
    listed=$("$path" --list 2>/dev/null)
    if grep -q '_cuda: test$' <<<"$listed"; then
        strip -o "$new/checks/$name" "$path"
    fi
done <<<"$tests"
[ -n "$(ls "$new/checks")" ] || fail "no test uses a GPU"
while read -r name path; do
    strip -o "$new/benches/$name" "$path"
done <<<"$benches"
cp benches/peers/*.py "$new/benches/peers/"
cp -r tests/fixtures "$new/tests/fixtures"
cp scripts/run-gpu-checks.sh "$new/"
# Together: each holds the same library and kernels. The window must span several of them.
tar -C "$new" -c bin checks benches | xz --lzma2=preset=9,dict=256MiB >"$new/programs.tar.xz"
rm -r "$new/bin" "$new/checks" "$new/benches"
commit=$(git rev-parse HEAD 2>/dev/null || echo unknown)
git diff --quiet HEAD 2>/dev/null || commit+=" and changes"
echo "$commit" >"$new/COMMIT"

bytes=$(du -sb "$new" | cut -f1)
[ "$bytes" -lt "$limit" ] ||
    fail "the bundle has $bytes bytes, more than $limit; leave out GPUs with FISHMASK_CUDA_ARCHS"
rm -rf "$folder"
mv "$new" "$folder"
echo "$folder: $bytes bytes; on the GPU machine: ./run-gpu-checks.sh DATA_DIR"
