#!/bin/sh
# CANARY. correct-parallel.sh, but the barrier does not wait for all of the upload; the cutover does. As long as the
# other parts are the faster ones, nothing is wrong. Run it with `--recordings 3` or more.
#
# Expected, live: nothing broken.
# Expected, posix (ext4, xfs and btrfs as well):
# - current_complete: what was written after the barrier is torn.
# - durable_ack: the same, after success was reported.
# - previous_intact: so it may be in the release before, until the next barrier.
. "$(dirname "$0")/parts.sh"

# BROKEN: what a sync covers was there when it began.
upload_and_sync() {
    on_server 'rm -rf "releases/$id"; mkdir "releases/$id"' </dev/null
    upload_part 1 & first=$!
    upload_part 2 & second=$!
    upload_part 3
    on_server 'sync -f .' </dev/null
    wait "$first"
    wait "$second"
}

# The link has a barrier of its own.
cut_over() {
    on_server '
        link=.current.$id.$$
        ln -sT "releases/$id" "$link"
        sync .
        mv -T "$link" current
        sync .' </dev/null
}

sweep
upload_and_sync
cut_over
clean_up
