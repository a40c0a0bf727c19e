#!/bin/sh
# CANARY. correct.sh, but its one barrier comes after the cutover; before it, files are synced and nothing else.
#
# Expected, live: nothing broken.
# Expected, posix (not ext4, xfs and btrfs, on which the rename of `current` brings all metadata of before):
# - current_complete: `current` is durable before the barrier, and leads to a release that is not.
# - durable_ack: the same, during the next deploy.
. "$(dirname "$0")/steps.sh"

# BROKEN: names, modes and the link itself are durable too late.
cut_over() {
    on_server '
        find "releases/$id" -type f -exec sync {} +
        link=.current.$id.$$
        ln -sT "releases/$id" "$link"
        mv -T "$link" current
        sync -f .' </dev/null
}

sweep
upload
cut_over
clean_up
