#!/bin/sh
# CANARY. correct.sh, but the live release is copied into the new one while the upload is unpacked there: two writers
# in one tree. The network is slower than the copy, as a rule, and then nothing is wrong. Run it with `--recordings 5`
# or more, and an application of a hundred files or more that change, none of which becomes a directory.
#
# Expected, live:
# - current_complete: where the copy came last, a file is that of the old version, and success is reported.
# - readers_whole: who reads through `current` finds something else than what was deployed.
# Expected, posix: nothing broken. It is durable; it is only not what was asked for.
. "$(dirname "$0")/steps.sh"

# What the new version does not have is removed when both are done. BROKEN: who writes last is a matter of luck.
copy_and_upload() {
    archive=$(mktemp)
    trap 'rm -f "$archive"' EXIT
    tar -C "$CERTIFY_SOURCE" -cf "$archive" .
    (sleep 0.2 && cat "$archive") | on_server '
        rm -rf "releases/$id"
        mkdir "releases/$id"
        if [ -n "$live" ]; then
            cp -a "$live/." "releases/$id" 2>/dev/null &
        fi
        tar -C "releases/$id" --no-same-owner --overwrite -xpf -
        wait'
    (cd "$CERTIFY_SOURCE" && find . -print0 | LC_ALL=C sort -z) | on_server '
        export LC_ALL=C
        list=$(mktemp)
        cat >"$list"
        cd "releases/$id"
        find . -print0 | sort -z | comm -z -23 - "$list" | xargs -0 -r rm -rf --'
}

sweep
copy_and_upload
cut_over
clean_up
