#!/usr/bin/busybox sh
# metadata [cdrom | virtiofs | 9p | file=PATH ...]
set -eu

dir=/run/config
at=/tmp/source
mkdir -p "$dir" "$at" /tmp

# Copies what a mounted source holds: moby's and LinuxKit's `config`, or cloud-init's.
take() {
    for name in config user-data userdata; do
        [ -f "$at/$name" ] && cp "$at/$name" "$dir/userdata" && found=1 && break
    done
    [ -f "$at/meta-data" ] && cp "$at/meta-data" "$dir/meta-data"
    umount "$at"
    [ -n "$found" ]
}

found=
[ $# -gt 0 ] || set -- cdrom virtiofs 9p
for provider; do
    case $provider in
    cdrom)
        for disk in /dev/sr*; do
            [ -b "$disk" ] && mount -t iso9660 -o ro "$disk" "$at" 2> /dev/null && take && break
        done || true
        ;;
    virtiofs) mount -t virtiofs -o ro config "$at" 2> /dev/null && take || true ;;
    9p) mount -t 9p -o ro,trans=virtio,version=9p2000.L config "$at" 2> /dev/null && take || true ;;
    file=*) [ -f "${provider#file=}" ] && cp "${provider#file=}" "$dir/userdata" && found=1 || true ;;
    *) echo "metadata: unknown provider $provider" >&2; exit 2 ;;
    esac
    if [ -n "$found" ]; then
        echo "$provider" > "$dir/provider"
        echo "metadata: configuration from $provider"
        break
    fi
done
if [ -z "$found" ]; then
    echo "metadata: no provider has any: $*"
    exit 0
fi

# Other forms than JSON are for those who read userdata.
jq -e 'type == "object"' "$dir/userdata" > /dev/null 2>&1 || exit 0
jq -r -f /usr/lib/metadata/files.jq "$dir/userdata" > /tmp/files
while read -r kind mode path content; do
    path=$(echo "$path" | base64 -d)
    case /$path/ in
    */../*) echo "metadata: expected a path within $dir, got $path" >&2; exit 1 ;;
    esac
    if [ "$kind" = folder ]; then
        mkdir -p "$dir/$path"
    else
        case $path in */*) mkdir -p "$dir/${path%/*}" ;; esac
        echo "$content" | base64 -d > "$dir/$path"
    fi
    chmod "$mode" "$dir/$path"
done < /tmp/files

if [ -s "$dir/hostname" ]; then hostname -F "$dir/hostname" || true; fi
