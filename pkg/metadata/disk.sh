# Providers whose configuration is on a disk, or in a folder of the host.

# Mounts a source, with mount's options, and copies what it holds.
mounted() {
    what=$1
    shift
    mount "$@" "$at" 2> /dev/null || return 1
    "$what" && got=0 || got=1
    umount "$at"
    return "$got"
}

# The device of a file system by its label.
labelled() {
    for label; do findfs "LABEL=$label" 2> /dev/null || true; done
}

# moby's and LinuxKit's `config`, or cloud-init's.
plain() {
    [ -f "$at/meta-data" ] && cp "$at/meta-data" "$dir/meta-data"
    for name in config user-data userdata; do
        [ -f "$at/$name" ] && cp "$at/$name" "$dir/userdata" && return 0
    done
    return 1
}

from_cdrom() {
    for disk in $(labelled cidata CIDATA) /dev/sr*; do
        [ -b "$disk" ] || continue
        mounted plain -t iso9660 -o ro "$disk" && return 0
        case $disk in
        /dev/sr*) ;;
        *) mounted plain -t vfat -o ro "$disk" && return 0 ;;
        esac
    done
    return 1
}

from_virtiofs() { mounted plain -t virtiofs -o ro config; }

from_9p() { mounted plain -t 9p -o ro,trans=virtio,version=9p2000.L config; }

# OpenStack's config drive: what its service would answer, as files.
config_drive() {
    [ -f "$at/openstack/latest/meta_data.json" ] || return 1
    described openstack < "$at/openstack/latest/meta_data.json"
    [ ! -f "$at/openstack/latest/user_data" ] || cp "$at/openstack/latest/user_data" "$dir/userdata"
}

from_config_drive() {
    for disk in $(labelled config-2 CONFIG-2); do
        for type in iso9660 vfat; do mounted config_drive -t "$type" -o ro "$disk" && return 0; done
    done
    return 1
}

# Azure's disc for the first boot: XML, with the custom data in base64.
ovf_env() {
    [ -f "$at/ovf-env.xml" ] || return 1
    tr -d '\r\n' < "$at/ovf-env.xml" > /tmp/ovf-env.xml
    sed -n 's/.*<[^<>/]*CustomData>\([^<]*\)<.*/\1/p' /tmp/ovf-env.xml | base64 -d > "$dir/userdata"
    [ -s "$dir/userdata" ] || rm "$dir/userdata"
}

from_ovf_env() {
    for disk in /dev/sr*; do
        [ -b "$disk" ] || continue
        for type in udf iso9660; do mounted ovf_env -t "$type" -o ro "$disk" && return 0; done
    done
    return 1
}
