#!/usr/bin/busybox sh
# format [-force] [-label LABEL] [-type ext4] [-partition gpt|dos] [-verbose] [DEVICE]
# Gives each blank disk, or one, a partition that fills it and a file system.
set -eu

force='' label='' type=ext4 table=gpt verbose=''
while [ $# -gt 0 ]; do
    option=${1#-}
    case $1 in
    -force | --force) force=1 ;;
    -verbose | --verbose) verbose=1 ;;
    -label | --label) label=$2; shift ;;
    -type | --type) type=$2; shift ;;
    -partition | --partition) table=$2; shift ;;
    -*) echo "format: unknown option -$option" >&2; exit 2 ;;
    *) break ;;
    esac
    shift
done
[ "$type" = ext4 ] || { echo "format: expected -type ext4, got $type" >&2; exit 2; }
case $table in
gpt | dos) ;;
*) echo "format: expected -partition gpt or dos, got $table" >&2; exit 2 ;;
esac
told() { [ -z "$verbose" ] || echo "format: $*"; }

# Says whether a MiB of a disk, counted from its start, can be read and is all zeros.
zeros() {
    read=$(dd if="$1" bs=1M skip="$2" count=1 2> /dev/null | wc -c)
    [ "$read" -gt 0 ] || return 1
    [ "$(dd if="$1" bs=1M skip="$2" count=1 2> /dev/null | tr -d '\000' | wc -c)" = 0 ]
}

# A disk holds nothing if it has no partitions, and zeros where tables and file systems begin and
# where arrays of disks leave their marks: in the first MiB and the last.
blank() {
    for dir in "/sys/block/$1/$1"*; do [ -e "$dir" ] && return 1; done
    last=$((($(cat "/sys/block/$1/size") - 1) / 2048))
    zeros "/dev/$1" 0 && zeros "/dev/$1" "$last"
}

if [ $# -gt 0 ]; then
    disks=${1#/dev/}
else
    disks=
    for dir in /sys/block/*; do
        name=${dir##*/}
        case $name in
        loop* | ram* | zram* | sr* | fd* | dm-* | md* | nbd*) continue ;;
        esac
        [ "$(cat "$dir/ro")" = 0 ] && [ "$(cat "$dir/size")" -gt 0 ] && disks="$disks $name"
    done
fi

for name in $disks; do
    disk=/dev/$name
    [ -b "$disk" ] || { echo "format: expected a disk, found no $disk" >&2; exit 1; }
    if ! blank "$name" && [ -z "$force" ]; then
        told "$disk is not blank: left alone"
        continue
    fi
    told "partitioning $disk"
    echo ',,L' | sfdisk --quiet --wipe always --label "$table" "$disk"
    case $name in
    *[0-9]) part=${disk}p1 ;;
    *) part=${disk}1 ;;
    esac
    tries=0
    while [ ! -b "$part" ]; do
        tries=$((tries + 1))
        [ "$tries" -le 50 ] || { echo "format: expected $part, found none" >&2; exit 1; }
        sleep 0.1
    done
    told "formatting $part"
    mkfs.ext4 -q -F ${label:+-L "$label"} "$part"
done
