#!/bin/sh
# CANARY. correct-copy-fsync.sh, but it forgets the directory that the release itself is named in: releases/.
#
# Expected, live: nothing broken.
# Expected, posix:
# - current_complete: `current` is durable, and the release is, but not its name: the link dangles.
# - durable_ack: the same, after success was reported.
# - previous_intact: the releases before are no better.
. "$(dirname "$0")/steps.sh"

# BROKEN: everything in the release, and the deploy path, but not what is between them.
cut_over() {
    on_server '
        find "releases/$id" ! -type l -exec sync {} +
        link=.current.$id.$$
        ln -sT "releases/$id" "$link"
        sync .
        mv -T "$link" current
        sync .' </dev/null
}

sweep
upload
cut_over
clean_up
