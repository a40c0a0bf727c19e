#!/bin/sh
# CANARY. correct.sh, but it also links a directory below one that it has linked before: `linked_dirs public
# public/deep`. Run it with `--shared public/`, whose user data is in public/deep.
#
# Expected, live:
# - shared_intact: what is removed to make room for the second link is the user's data, behind the first.
# Expected, posix:
# - shared_intact: as live.
. "$(dirname "$0")/steps.sh"

# BROKEN: by the second round, public/ in the release is a link into shared/.
link_shared() {
    on_server '
        for path in public public/deep; do
            to=releases/$id/$path
            [ ! -L "$to" ] || continue
            [ ! -d "$to" ] || rm -rf "$to"
            mkdir -p "$(dirname "$to")"
            ln -s "$PWD/shared/$path" "$to"
        done' </dev/null
}

sweep
upload
link_shared
cut_over
clean_up
