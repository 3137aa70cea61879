#!/usr/bin/busybox sh
# Makes what is missing and serves. Arguments go to dropbear, such as `-p 2222`.
set -eu

key=/etc/dropbear/dropbear_ed25519_host_key
[ -s "$key" ] || dropbearkey -t ed25519 -f "$key" > /dev/null

# Keys that the metadata package found.
if [ ! -s /root/.ssh/authorized_keys ] && [ -s /run/config/ssh/authorized_keys ]; then
    cp /run/config/ssh/authorized_keys /root/.ssh/authorized_keys
fi
# Where the keys' files may be read by others, they count for nothing.
chmod 700 /root /root/.ssh 2> /dev/null || true
chmod 600 /root/.ssh/authorized_keys 2> /dev/null || true
[ -s /root/.ssh/authorized_keys ] || echo "sshd: no authorized keys: nobody can log in" >&2

# In the foreground, told on stderr; no passwords.
exec dropbear -F -E -s -r "$key" "$@"
