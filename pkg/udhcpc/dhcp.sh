#!/usr/bin/busybox sh
# dhcp [-1] [INTERFACE ...]: gets an address for each interface.
set -eu

once=
if [ "${1-}" = -1 ]; then once=1; shift; fi

# Drivers may still be at work: waits for the first interface that is not the loopback.
found() {
    for dir in /sys/class/net/*; do
        name=${dir##*/}
        # Type 1 is Ethernet; bridges, tunnels and the like are made by others.
        if [ -e "$dir/device" ] && [ "$(cat "$dir/type")" = 1 ]; then echo "$name"; fi
    done
}
interfaces=$*
tries=0
while [ -z "$interfaces" ]; do
    interfaces=$(found)
    [ -n "$interfaces" ] && break
    tries=$((tries + 1))
    if [ "$tries" -gt 50 ]; then echo "dhcp: expected a network interface, found none" >&2; exit 1; fi
    sleep 0.2
done

for name in $interfaces; do
    ip link set "$name" up
    if [ -n "$once" ]; then
        # Six packets, then the next interface; -q ends after the lease, -n without one.
        udhcpc -f -q -n -t 6 -T 2 -i "$name" -s /usr/lib/dhcp/lease && got=1 || true
    else
        udhcpc -f -t 6 -T 2 -A 10 -i "$name" -s /usr/lib/dhcp/lease &
    fi
done
if [ -n "$once" ]; then
    if [ -z "${got-}" ]; then echo "dhcp: no lease for: $interfaces" >&2; exit 1; fi
    exit 0
fi
wait
