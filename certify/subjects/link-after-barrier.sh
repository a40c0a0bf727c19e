#!/bin/sh
# CANARY. correct.sh, but the temporary link is made after the barrier instead of before it.
#
# Expected, live: nothing broken.
# Expected, posix (not ext4, xfs and btrfs, which write a link and its rename in order, and a link with
# its text):
# - current_complete: the renamed entry survives, the text of the new link does not: `current` is an empty
#   link.
# - durable_ack: the same, during the next deploy, when the acknowledged release was what `current` had to
#   keep.
. "$(dirname "$0")/steps.sh"

# The barrier, then the link that is going to be `current`, under a name of this run alone.
# BROKEN: nothing makes the text of the link durable before the rename; the fsync is too late.
cut_over() {
    on_server '
        sync -f .
        link=.current.$id.$$
        ln -sT "releases/$id" "$link"
        mv -T "$link" current
        sync .' </dev/null
}

sweep
upload
cut_over
clean_up
