#!/bin/sh
# CANARY. correct.sh, but shared/ is linked into the release when it is live already. Run it with
# `SHARED=storage` in its environment, and `--shared storage/`.
#
# Expected, live:
# - current_complete: the release goes live without its user data.
# - immutable_after_cutover: then it changes.
# - previous_intact: to the next deploy it is the one before, and not what it was.
# - readers_whole: who reads from that release finds it changed, or parts of it gone.
# Expected, posix:
# - current_complete, durable_ack: the link, and the removal of what the application had in its place, come
#   and go with the power.
# - previous_intact: as live.
. "$(dirname "$0")/steps.sh"

# As in steps.sh, for a release that is live.
link_shared() {
    on_server "
        for path in $SHARED; do
            rm -rf \"releases/$id/\$path\"
            ln -srT \"shared/\$path\" \"releases/$id/\$path\"
        done" </dev/null
}

sweep
upload
cut_over
# BROKEN: what a release consists of has to be there before the barrier.
link_shared
clean_up
