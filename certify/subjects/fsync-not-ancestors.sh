#!/bin/sh
# CANARY. correct-copy-fsync.sh, but it does not think of the directory that the deploy path itself is named in.
# Where the deploy path is there before the first deploy, that is no defect: run it with `--from-nothing`.
#
# Expected, live: nothing broken.
# Expected, posix, starting without the deploy path:
# - current_complete: after success was reported, the deploy path is not there.
# - durable_ack: the same.
# - previous_intact: nor is anything in it.
. "$(dirname "$0")/steps.sh"

# BROKEN: `mkdir -p` (see sweep) may have made more directories than the last.
cut_over() {
    on_server '
        find "releases/$id" ! -type l -exec sync {} +
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
