#!/bin/sh
# CANARY. correct.sh, but the last sync call is of a file: a note of what is live, which gets its name after the cutover.
#
# Expected, live: nothing broken.
# Expected, posix (btrfs as well; on ext4 and xfs an fsync of a file takes along all names that were given before it got
# its own):
# - durable_ack: after success was reported, the rename of `current` is lost, and the release before is back.
# - current_complete: only by the first deploy, after which there is no release before.
. "$(dirname "$0")/steps.sh"

# BROKEN: nothing syncs the directory that `current` is in.
cut_over() {
    on_server '
        link=.current.$id.$$
        ln -sT "releases/$id" "$link"
        echo "$id" >.status
        sync -f .
        mv -T "$link" current
        mv -T .status status
        sync status' </dev/null
}

sweep
upload
cut_over
clean_up
