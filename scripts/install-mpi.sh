#!/usr/bin/env bash
# Installs what the cargo feature `mpi` needs, from Debian's packages: Open MPI, its compiler wrapper, and
# libclang, which reads MPI's headers. About 200 MB, as root.
set -euo pipefail

fail() {
    echo "install-mpi.sh: $*" >&2
    exit 1
}

# Where bindgen looks for it: LIBCLANG_PATH, llvm-config's folder, and the usual ones. libclang-cpp is another
# library.
libclang() {
    [ -z "${LIBCLANG_PATH:-}" ] || return 0
    local folder
    for folder in "$(llvm-config --libdir 2>/dev/null)" '/usr/lib/llvm-*/lib' '/usr/lib*' '/usr/lib/*'; do
        compgen -G "$folder/libclang.so*" >/dev/null && return
        compgen -G "$folder/libclang-[0-9]*.so*" >/dev/null && return
    done
    return 1
}

missing=()
# The header as well: a system with MPI for programs, but not for their building, has mpirun alone.
command -v mpicc >/dev/null && echo '#include <mpi.h>' | mpicc -x c -E - >/dev/null 2>&1 ||
    missing+=(libopenmpi-dev)
command -v mpirun >/dev/null || missing+=(openmpi-bin)
libclang || missing+=(libclang-dev)
if ((${#missing[@]} == 0)); then
    echo "MPI is installed already: $(mpirun --version | head -1)"
    exit 0
fi

command -v apt-get >/dev/null ||
    fail "this system has no apt-get, and these are missing: ${missing[*]}. Install Open MPI or MPICH with \
its development files and libclang (Fedora: dnf install openmpi-devel clang-devel, then module load \
mpi/openmpi-x86_64; macOS: brew install open-mpi llvm; a cluster: module load its MPI)"
[ "$(id -u)" = 0 ] || fail "needs root: sudo apt-get install ${missing[*]}"
apt-get update -q
DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "${missing[@]}" ||
    fail "apt-get could not install ${missing[*]}"
# It works when it compiles and starts a program.
part=$(mktemp -d)
trap 'rm -rf "$part"' EXIT
printf '#include <mpi.h>\nint main(void) { MPI_Init(0, 0); return MPI_Finalize(); }\n' >"$part/probe.c"
mpicc -o "$part/probe" "$part/probe.c" || fail "MPI was installed, and mpicc does not work here (Debian: gcc)"
as_root=()
[ "$(id -u)" != 0 ] || as_root=(--allow-run-as-root)
mpirun "${as_root[@]}" --oversubscribe -n 2 "$part/probe" ||
    fail "MPI was installed, and mpirun does not work here"
mpirun --version | head -1
