#!/usr/bin/busybox sh
# off [SECONDS]: asks init to power off, at once or later.
sleep "${1:-0}"
kill -USR2 1
