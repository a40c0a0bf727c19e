#!/bin/sh
# CANARY. correct-copy-fsync.sh, but it syncs each directory of the release and no file.
#
# Expected, live: nothing broken.
# Expected, posix (ext4, xfs and btrfs as well):
# - current_complete: the names are durable; the files may be empty.
# - durable_ack: the same, after success was reported.
# - previous_intact: the releases before are no better.
. "$(dirname "$0")/steps.sh"

# BROKEN: an fsync of a directory makes names durable, and nothing that files hold.
cut_over() {
    on_server '
        find "releases/$id" -type d -exec sync {} +
        link=.current.$id.$$
        ln -sT "releases/$id" "$link"
        sync releases .
        mv -T "$link" current
        sync .' </dev/null
}

sweep
upload
cut_over
clean_up
