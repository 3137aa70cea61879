#!/usr/bin/busybox sh
# serve [PORT]
exec busybox httpd -f -v -p "${1:-80}" -h /www
