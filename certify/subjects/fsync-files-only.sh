#!/bin/sh
# CANARY. correct-copy-fsync.sh, but it syncs each file and no directory of the release.
#
# Expected, live: nothing broken.
# Expected, posix:
# - current_complete: the content of each file is durable, its name is not.
# - durable_ack: the same, after success was reported.
# - previous_intact: the releases before are no better.
. "$(dirname "$0")/steps.sh"

# BROKEN: an fsync of a file does not make its name durable.
cut_over() {
    on_server '
        find "releases/$id" -type f -exec sync {} +
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
