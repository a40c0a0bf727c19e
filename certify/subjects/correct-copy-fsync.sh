#!/bin/sh
# A small deploy that does it right, by the second of six ways: the live release is copied on the server and
# rsync brings the copy up to date, so that only what changed travels. It never asks for a sync of the whole
# file system, which others may be writing to: it syncs each file and each directory that it made.
# Needs rsync on both sides.
#
# Expected, live: nothing broken.
# Expected, posix: nothing broken.
. "$(dirname "$0")/steps.sh"

copy_and_update() {
    live=$(on_server 'echo "$live"' </dev/null)
    [ "$live" != "releases/$id" ] || return 0
    on_server '
        rm -rf "releases/$id"
        if [ -n "$live" ]; then cp -a "$live" "releases/$id"; else mkdir "releases/$id"; fi' </dev/null
    # Nothing but this writes into the copy now. What is linked from shared/ came with the copy, and is left alone.
    set --
    for path in ${SHARED-}; do
        set -- "$@" --exclude="/$path"
    done
    rsync -rlpt --checksum --delete "$@" -e "ssh -F '$CERTIFY_SSH_CONFIG'" \
        "$CERTIFY_SOURCE/" "target:$CERTIFY_DEPLOY_PATH/releases/$id/"
}

# `sync FILE...` is an fsync of each. That of a file makes its content durable but not its name; that of a
# directory makes the names in it durable, with what its symbolic links say, but not the files. So: both, and
# every directory on the way down to the release, for an earlier run may have made it and died.
cut_over() {
    on_server '
        find "releases/$id" -type f -exec sync {} +
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
copy_and_update
link_shared
cut_over
clean_up
