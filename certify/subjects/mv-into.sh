#!/bin/sh
# CANARY. correct.sh, but `mv` without -T: it moves the new link into the directory that `current` leads to.
#
# Expected, live, from the second deploy on:
# - current_complete: success is reported, and `current` still leads to the first release.
# - immutable_after_cutover: the link lies in that release now.
# - readers_whole: who reads from that release finds it changed, or parts of it gone.
# Expected, posix:
# - current_complete, durable_ack: as live.
. "$(dirname "$0")/steps.sh"

# BROKEN: a target that leads to a directory is a place to move things to.
cut_over() {
    on_server '
        link=.current.$id.$$
        ln -sT "releases/$id" "$link"
        sync -f .
        mv "$link" current
        sync .' </dev/null
}

sweep
upload
cut_over
