#!/bin/sh
# CANARY. correct.sh, but a sync that failed is tried again until it succeeds, as one would do with anything else.
# A failed sync has marked what it could not write as clean: the second one has nothing to do, and says so.
#
# Expected, live and posix: nothing broken.
# Expected, runs (`--faults 96`):
# - failed_is_failed: after EIO or ENOSPC from a barrier the second try succeeds, and what is reported as
#   live is lost with the power.
. "$(dirname "$0")/steps.sh"

# As in steps.sh. BROKEN: what a failed sync covered, no later sync makes durable; it has to be written anew.
cut_over() {
    on_server '
        link=.current.$id.$$
        ln -sT "releases/$id" "$link"
        sync -f . || sync -f .
        mv -T "$link" current
        sync . || sync .' </dev/null
}

sweep
upload
link_shared
cut_over
clean_up
