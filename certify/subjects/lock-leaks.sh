#!/bin/sh
# CANARY. correct.sh with a lock that outlives its holder, as in Kamal: a directory, made before the upload and removed
# after the cleanup. Whoever finds it refuses.
#
# Expected, live and posix: nothing broken.
# Expected, runs (`--recoveries 24`), after a power loss or a kill in between:
# - recoverable: the lock is still there, nobody holds it, and every run refuses until somebody removes it.
. "$(dirname "$0")/steps.sh"

# Two cannot both make it. BROKEN: nothing takes it away from a run that has died.
take_lock() {
    on_server 'mkdir lock || { echo "another deploy is under way" >&2; exit 1; }' </dev/null
}

sweep
take_lock
upload
link_shared
cut_over
clean_up
on_server 'rmdir lock' </dev/null
