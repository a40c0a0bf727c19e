#!/bin/sh
# CANARY. correct.sh, but the rename is not made durable before success is reported: no `sync .`.
#
# Expected, live: nothing broken.
# Expected, posix (ext4, xfs and btrfs as well):
# - durable_ack: after exit 0 a power loss brings the release before back.
# - current_complete: only by the first deploy, after which a power loss leaves no `current` at all
#   although a release was reported as live. Later ones fall back to a complete release: the next barrier
#   makes the rename durable before anything that it relied on is removed.
. "$(dirname "$0")/steps.sh"

# The link that is going to be `current`, under a name of this run alone. -T: never into a directory.
# Then everything so far, the link itself included, becomes durable: the barrier before the cutover.
# BROKEN: the rename replaces `current` at once, but only in memory.
cut_over() {
    on_server '
        link=.current.$id.$$
        ln -sT "releases/$id" "$link"
        sync -f .
        mv -T "$link" current' </dev/null
}

sweep
upload
cut_over
clean_up
