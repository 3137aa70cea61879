#!/usr/bin/busybox sh
# mountie [-label LABEL | -device DEVICE] FOLDER
set -eu

label='' device=''
while [ $# -gt 0 ]; do
    case $1 in
    -label | --label) label=$2; shift ;;
    -device | --device) device=$2; shift ;;
    -*) echo "mountie: unknown option $1" >&2; exit 2 ;;
    *) break ;;
    esac
    shift
done
[ $# = 1 ] || { echo "usage: mountie [-label LABEL | -device DEVICE] FOLDER" >&2; exit 2; }
mkdir -p "$1"

# Each type in turn: asking for one loads its module, which trying all that are loaded would not.
attempt() {
    for type in ext4 xfs btrfs vfat; do
        mount -t "$type" "$1" "$2" 2> /dev/null && return 0
    done
    return 1
}

# A disk may come up later than this container.
tries=0
while :; do
    found=$device
    [ -z "$label" ] || found=$(findfs "LABEL=$label" 2> /dev/null) || found=
    if [ -n "$found" ] && [ -b "$found" ]; then
        attempt "$found" "$1" || {
            echo "mountie: expected ext4, xfs, btrfs or vfat on $found" >&2
            exit 1
        }
        echo "mountie: $found on $1"
        exit 0
    fi
    if [ -z "$label$device" ]; then
        for dir in /sys/block/*/*/partition; do
            [ -e "$dir" ] || continue
            dir=${dir%/partition}
            if attempt "/dev/${dir##*/}" "$1"; then
                echo "mountie: /dev/${dir##*/} on $1"
                exit 0
            fi
        done
    fi
    tries=$((tries + 1))
    if [ "$tries" -gt 50 ]; then
        echo "mountie: expected ${label:+a file system labelled $label}${device:-} for $1, found none" >&2
        exit 1
    fi
    sleep 0.1
done
