#!/bin/sh
# CANARY. correct-fdatasync.sh, but it leaves to a file what is for a directory: that the release has its name is left to
# its files, that `current` is renamed to a note of what is live, which is made after the cutover.
#
# Expected, live: nothing broken.
# Expected, posix (ext4 and xfs take all metadata along up to the op that made the file: nothing is broken there; btrfs
# takes the names of the file and the way to it: the release is there, but not the rename of `current`):
# - current_complete: `current` is durable, and the release is, but not its name: the link dangles.
# - durable_ack: the same, after success was reported.
# - previous_intact: the releases before are no better.
. "$(dirname "$0")/steps.sh"

# BROKEN: `releases` is not synced, nor what the rename has changed.
cut_over() {
    on_server '
        find "releases/$id" -type f -exec sync --data {} +
        find "releases/$id" -type d -exec sync {} +
        link=.current.$id.$$
        ln -sT "releases/$id" "$link"
        sync .
        mv -T "$link" current
        rm -f status
        echo "$id" >status
        sync --data status' </dev/null
}

sweep
upload
cut_over
clean_up
