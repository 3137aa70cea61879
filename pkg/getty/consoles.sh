#!/usr/bin/busybox sh
# Keeps a login running on each console of the kernel's command line.
set -u

if [ -r /hostroot/etc/getty.shadow ]; then
    cp /hostroot/etc/getty.shadow /etc/shadow
    chmod 600 /etc/shadow
fi
login=/usr/bin/login
case "${INSECURE-}" in true | yes | 1) login=/usr/bin/shell ;; esac

keep() {
    while :; do
        # setsid makes the terminal the login's own; -L: no modem.
        setsid getty -L -n -l "$login" "$2" "$1" "${TERM:-linux}" || true
        sleep 1
    done
}

# The kernel lists its consoles; tty0 stands for the foreground one.
for name in $(cat /sys/class/tty/console/active); do
    speed=115200
    case $name in
    tty0) name=tty1 ;;
    esac
    [ -c "/dev/$name" ] || continue
    keep "$name" "$speed" &
done
wait
