#!/bin/sh
# CANARY. correct.sh, but after the rename it syncs `current`, which is a link: what is synced is the directory it
# leads to, not the one that its name is in. The first deploy is right.
#
# Expected, live: nothing broken.
# Expected, posix:
# - durable_ack: after exit 0 a power loss brings the release before back. That one is complete, and it is
#   durable: the barrier of the next deploy comes before anything is removed.
. "$(dirname "$0")/steps.sh"

# As in steps.sh, but BROKEN: `current` where `.` was meant.
cut_over() {
    on_server '
        link=.current.$id.$$
        ln -sT "releases/$id" "$link"
        sync -f .
        mv -T "$link" current
        sync current
        [ -n "$live" ] || sync .' </dev/null
}

sweep
upload
cut_over
clean_up
