#!/bin/sh
# CANARY. correct.sh, but nothing is made durable before the cutover: no `sync -f`.
#
# Expected, live: nothing broken.
# Expected, posix (ext4, xfs and btrfs as well):
# - current_complete: the name `current` survives a power loss, the files of the release it names do not.
# - durable_ack: the fsync of the directory forces the link, never what is behind it.
# - previous_intact: the release before was not made durable either, nor the one before that.
. "$(dirname "$0")/steps.sh"

# BROKEN: there is no barrier between the upload and the rename.
cut_over() {
    on_server '
        link=.current.$id.$$
        ln -sT "releases/$id" "$link"
        mv -T "$link" current
        sync .' </dev/null
}

sweep
upload
cut_over
clean_up
