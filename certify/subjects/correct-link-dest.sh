#!/bin/sh
# A small deploy that does it right, by the third of six ways: a file that did not change is a hard link to
# the file of the live release. `--link-dest` links only what is equal in content, mode and time; whatever is
# not equal becomes a file of its own, so nothing that a release shares is ever written to. (A copy made by
# `cp -al` is not as safe: see hardlink-chmod.sh.) Needs rsync on both sides.
#
# Expected, live: nothing broken.
# Expected, posix: nothing broken.
. "$(dirname "$0")/steps.sh"

upload_and_link() {
    live=$(on_server 'echo "$live"' </dev/null)
    [ "$live" != "releases/$id" ] || return 0
    on_server 'rm -rf "releases/$id"' </dev/null
    set --
    for path in ${SHARED-}; do
        set -- "$@" --exclude="/$path"
    done
    [ -z "$live" ] || set -- "$@" --link-dest="../${live#releases/}"
    rsync -rlpt --checksum "$@" -e "ssh -F '$CERTIFY_SSH_CONFIG'" \
        "$CERTIFY_SOURCE/" "target:$CERTIFY_DEPLOY_PATH/releases/$id/"
}

sweep
upload_and_link
link_shared
cut_over
clean_up
