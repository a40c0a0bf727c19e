#!/bin/sh
# CANARY. correct.sh, but `current` is replaced by the `ln -sfn` of busybox: it unlinks and makes a new link, as
# that of BSD and of older coreutils does. Needs busybox on the server.
#
# Expected, live:
# - never_absent: between the two there is no `current`.
# - current_complete: the same instant, after the first acknowledgement.
# - readers_whole: who looks something up through `current` at that instant finds nothing.
# Expected, posix (ext4, xfs and btrfs as well):
# - current_complete: the power may fail in that instant. Under posix also: the new link survives without
#   its text, for it was made after the barrier.
# - durable_ack: during the next deploy the acknowledged release is not what `current` resolves to, and
#   neither is any other.
. "$(dirname "$0")/steps.sh"

# The barrier, and then the cutover. BROKEN: one command, two steps.
cut_over() {
    on_server '
        sync -f .
        busybox ln -sfn "releases/$id" current
        sync .' </dev/null
}

sweep
upload
cut_over
clean_up
