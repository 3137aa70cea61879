#!/usr/bin/busybox sh
# Called by udhcpc with what happened; the lease is in the environment.
set -eu

case $1 in
deconfig)
    ip address flush dev "$interface"
    ip link set "$interface" up
    ;;
bound | renew)
    ip address flush dev "$interface"
    ip address add "$ip/${mask:-24}" broadcast + dev "$interface"
    for router in ${router-}; do
        ip route replace default via "$router" dev "$interface" && break
    done
    mkdir -p /run/resolvconf
    {
        [ -z "${domain-}" ] || echo "search $domain"
        for server in ${dns-}; do echo "nameserver $server"; done
    } > "/run/resolvconf/$interface.new"
    mv "/run/resolvconf/$interface.new" /run/resolvconf/resolv.conf
    echo "dhcp: $interface has $ip/${mask:-24}"
    ;;
esac
