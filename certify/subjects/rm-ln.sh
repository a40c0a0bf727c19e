#!/bin/sh
# CANARY. correct.sh, but `current` is removed and made again instead of being replaced by a rename.
#
# Expected, live:
# - never_absent: between the two commands there is no `current`.
# - current_complete: the same instant, after the first acknowledgement.
# - readers_whole: who goes through `current` at that instant finds nothing.
# Expected, posix (ext4, xfs and btrfs as well):
# - current_complete: the power may fail in that instant. Under posix also: the new link survives without
#   its text, for it was made after the barrier.
# - durable_ack: during the next deploy the acknowledged release is not what `current` resolves to, and
#   neither is any other.
. "$(dirname "$0")/steps.sh"

# The barrier, and then the cutover. BROKEN: two steps where one is needed.
cut_over() {
    on_server '
        sync -f .
        rm -f current
        ln -sT "releases/$id" current
        sync .' </dev/null
}

sweep
upload
cut_over
clean_up
