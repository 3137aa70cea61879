#!/usr/bin/busybox sh
# metadata [PROVIDER ...]: brings configuration into /run/config. build.yml says how it is used.
set -eu

dir=/run/config
at=/tmp/source
lib=/usr/lib/metadata
mkdir -p "$dir" "$at" /tmp
. "$lib/disk.sh"
. "$lib/http.sh"
. "$lib/cloud.sh"

complain() { echo "metadata: $*" >&2; }

# Makes the folders and files that files.jq or clouds.jq name, one on each line.
lay_out() {
    while read -r kind mode path content; do
        path=$(echo "$path" | base64 -d)
        case /$path/ in
        */../*) complain "expected a path within $dir, got $path"; exit 1 ;;
        esac
        if [ "$kind" = folder ]; then
            mkdir -p "$dir/$path"
        else
            case $path in */*) mkdir -p "$dir/${path%/*}" ;; esac
            echo "$content" | base64 -d > "$dir/$path"
        fi
        chmod "$mode" "$dir/$path"
    done
}

here=$(cloud)
# A cloud is asked for its own: others would only cost time, and any might answer at its address.
[ $# -gt 0 ] || set -- $here cdrom virtiofs 9p
found=
for provider; do
    case $provider in
    file=*) [ -f "${provider#file=}" ] && cp "${provider#file=}" "$dir/userdata" && found=1 ;;
    cdrom | virtiofs | 9p | aws | azure | digitalocean | gcp | hetzner | openstack | oracle | scaleway | vultr)
        "from_$provider" && found=1
        ;;
    *) complain "unknown provider $provider"; exit 2 ;;
    esac || true
    [ -z "$found" ] || break
done
if [ -z "$found" ]; then
    echo "metadata: no provider has any: $*"
    exit 0
fi
echo "$provider" > "$dir/provider"
echo "metadata: configuration from $provider"

# Other forms than JSON are for those who read userdata.
if jq -e 'type == "object"' "$dir/userdata" > /dev/null 2>&1; then
    jq -r -f "$lib/files.jq" "$dir/userdata" > /tmp/files
    lay_out < /tmp/files
fi
if [ -s "$dir/hostname" ]; then
    name=$(head -n 1 "$dir/hostname")
    # Linux keeps 64 characters; clouds add their domain.
    [ ${#name} -le 64 ] || name=${name%%.*}
    hostname "$name" || true
fi
