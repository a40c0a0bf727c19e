#!/bin/sh
# A small deploy that does it right, by the fifth of six ways: each release is uploaded anew, its files are made durable by
# fdatasync, which is cheaper than fsync where only times have changed, and its directories by fsync.
#
# fdatasync makes no mode durable. None has to be: tar makes each file with the mode that it is to have, because it
# keeps the modes of the archive (-p) and does not change owners. See `fdatasync-modes.sh`.
#
# Expected, live: nothing broken.
# Expected, posix: nothing broken.
. "$(dirname "$0")/steps.sh"

# Each file of the release, then each directory, and every directory on the way down to it.
cut_over() {
    on_server '
        find "releases/$id" -type f -exec sync --data {} +
        find "releases/$id" -type d -exec sync {} +
        link=.current.$id.$$
        ln -sT "releases/$id" "$link"
        sync releases
        dir=$PWD
        while [ "$dir" != / ]; do
            sync "$dir"
            dir=$(dirname "$dir")
        done
        mv -T "$link" current
        sync .' </dev/null
}

sweep
upload
link_shared
cut_over
clean_up
