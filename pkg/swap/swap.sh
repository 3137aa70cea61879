#!/usr/bin/busybox sh
# swap [--size SIZE] [--file PATH] [--condition MOUNTPOINT]
set -eu

size=1G file=/var/swap condition=
while [ $# -gt 0 ]; do
    case $1 in
    --size | -size) size=$2 ;;
    --file | --path | -file) file=$2 ;;
    --condition | -condition) condition=$2 ;;
    *) echo "swap: unknown option $1" >&2; exit 2 ;;
    esac
    shift 2
done
if [ -n "$condition" ] && ! grep -q " $condition " /proc/mounts; then
    echo "swap: nothing is mounted on $condition: left out"
    exit 0
fi
number=${size%[kKmMgG]}
case $size in
*[kK]) unit=1024 ;;
*[mM]) unit=1048576 ;;
*[gG]) unit=1073741824 ;;
*) unit=1 ;;
esac
case $number in
'' | *[!0-9]*) echo "swap: expected a size like 512M, got $size" >&2; exit 2 ;;
esac
mib=$((number * unit / 1048576))

# A swap file must have no holes.
if [ ! -e "$file" ] || [ "$(stat -c %s "$file")" != $((mib * 1048576)) ]; then
    rm -f "$file"
    umask 077
    dd if=/dev/zero of="$file" bs=1M count="$mib" 2> /dev/null
fi
chmod 600 "$file"
mkswap "$file" > /dev/null
swapon "$file"
echo "swap: $file, $mib MiB"
