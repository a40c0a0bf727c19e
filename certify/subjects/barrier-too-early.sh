#!/bin/sh
# CANARY. correct.sh, but the last file of the release is written after the barrier. There is a second one, for
# the link, but it covers the deploy path alone.
#
# Expected, live: nothing broken.
# Expected, posix (ext4, xfs and btrfs as well):
# - current_complete: the last file is empty.
# - durable_ack: the same, after success was reported.
# - previous_intact: so it may be in the release before, until the next barrier.
. "$(dirname "$0")/steps.sh"

# BROKEN: what is unpacked is durable before what is built from it is there.
upload_and_build() {
    upload
    on_server '
        sync -f .
        cd "releases/$id"
        cp index.html index.html.new
        mv index.html.new index.html' </dev/null
}

cut_over() {
    on_server '
        link=.current.$id.$$
        ln -sT "releases/$id" "$link"
        sync "releases/$id" releases .
        mv -T "$link" current
        sync .' </dev/null
}

sweep
upload_and_build
cut_over
clean_up
