#!/usr/bin/busybox sh
# Writes parameters to /proc/sys. One that this kernel lacks is passed over (with `-key` quietly);
# one that cannot be written is an error in the end.
set -u

failed=0
for file in /usr/lib/sysctl.d/*.conf /hostroot/etc/sysctl.d/*.conf; do
    [ -r "$file" ] || continue
    while IFS= read -r line || [ -n "$line" ]; do
        line=${line%%#*}
        case $line in
        *=*) ;;
        *) continue ;;
        esac
        key=$(echo "${line%%=*}" | tr -d ' \t')
        value=$(echo "${line#*=}" | sed 's/^[ \t]*//; s/[ \t]*$//')
        path=/proc/sys/$(echo "${key#-}" | tr . /)
        if [ ! -e "$path" ]; then
            case $key in -*) ;; *) echo "sysctl: $key: this kernel has none" ;; esac
        elif ! echo "$value" > "$path"; then
            echo "sysctl: $key: expected to set it to $value" >&2
            failed=1
        fi
    done < "$file"
done
exit $failed
