#!/bin/sh
# CANARY. correct.sh, but a failed extraction on the server is ignored, as `tar … | …` does in many
# scripts.
#
# Expected, live and posix: nothing broken.
# Expected, runs (`--faults 48`):
# - failed_is_failed: a full disk or an I/O error during the upload ends with exit 0 and half of the files
#   live.
. "$(dirname "$0")/steps.sh"

# Uploads the release, unless an earlier run of this version already went live: then it is complete, and only
# its cutover may have been lost.
upload() {
    # A file between the two: sh does not see when the first command of a pipeline fails.
    archive=$(mktemp)
    trap 'rm -f "$archive"' EXIT
    tar -C "$CERTIFY_SOURCE" -cf "$archive" .
    on_server '
        [ "$live" != "releases/$id" ] || exit 0
        rm -rf "releases/$id"
        mkdir "releases/$id"
        # BROKEN: nobody looks at how this ended.
        tar -C "releases/$id" --no-same-owner -xpf - || true' <"$archive"
}

sweep
upload
link_shared
cut_over
clean_up
