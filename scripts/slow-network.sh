#!/usr/bin/env bash
# Runs a program of two ranks on this machine as if on two, joined by a network of a given rate, and delay
# where the kernel can: each rank in a network namespace of its own. For measuring, as root.
#
#     scripts/slow-network.sh RATE DELAY PROGRAM [ARGUMENT...]
#     scripts/slow-network.sh 1gbit 0ms target/release/train --distributed --workers 2 ...
#
# Rates and delays are those of tc(8). A delay other than 0ms needs the kernel's netem.
set -euo pipefail

fail() {
    echo "slow-network.sh: $*" >&2
    exit 1
}

# mpirun starts its daemon on the other host by `slow-network.sh HOST COMMAND...`, in the place of ssh.
if [ -n "${SLOW_NETWORK_AGENT:-}" ]; then
    shift
    exec ip netns exec "$SLOW_NETWORK_AGENT-1" unshare --uts sh -c "hostname node-1; $*"
fi

(($# >= 3)) || fail "usage: slow-network.sh RATE DELAY PROGRAM [ARGUMENT...]"
rate=$1 delay=$2
shift 2
[ "$(id -u)" = 0 ] || fail "network namespaces need root"
for tool in ip tc mpirun unshare; do
    command -v "$tool" >/dev/null || fail "$tool is missing (Debian: iproute2, openmpi-bin, util-linux)"
done
program=$(realpath "$(command -v "$1")") || fail "there is no program $1"
shift

# What may pass at once: 1 ms of the rate, and a packet as the kernel joins them.
burst=$(echo "$rate" | awk '/^[0-9.]+[kmg]bit$/ { u["k"] = 1e3; u["m"] = 1e6; u["g"] = 1e9
    b = $0 * u[substr($0, length($0) - 3, 1)] / 8000; printf "%d", (b > 65536 ? b : 65536) }')
[ -n "$burst" ] || fail "a rate is a number of kbit, mbit or gbit, as 100mbit"

name=slow$$
trap 'ip netns del "$name-0" 2>/dev/null; ip netns del "$name-1" 2>/dev/null' EXIT
ip netns add "$name-0" && ip netns add "$name-1" || fail "network namespaces are not permitted here"
ip link add "${name}a" netns "$name-0" type veth peer name "${name}b" netns "$name-1"
side=0
for device in "${name}a" "${name}b"; do
    in=(ip netns exec "$name-$side")
    "${in[@]}" ip addr add "10.77.0.$((side + 1))/24" dev "$device"
    "${in[@]}" ip link set lo up
    "${in[@]}" ip link set "$device" up
    if [ "$delay" = 0ms ]; then
        "${in[@]}" tc qdisc add dev "$device" root tbf rate "$rate" burst "$burst" latency 50ms
    else
        "${in[@]}" tc qdisc add dev "$device" root netem rate "$rate" delay "$delay" limit 100000 ||
            fail "this kernel has no netem: use 0ms"
    fi
    side=$((side + 1))
done

export SLOW_NETWORK_AGENT=$name OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
ip netns exec "$name-0" unshare --uts sh -c 'hostname node-0; exec "$@"' sh mpirun \
    --mca plm_rsh_agent "$(realpath "$0")" --mca btl tcp,self --mca pml ob1 \
    --host 10.77.0.1:1,10.77.0.2:1 -n 2 "$program" "$@"
