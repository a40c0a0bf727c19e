#!/bin/sh
# CANARY. correct.sh, but it shreds the files of a release before it removes it. Run it with `--keep 3`. Needs
# shred on the server.
#
# Expected, live, from the fourth deploy on:
# - readers_whole: who still reads from that release may find a file gone, and can notice that; here it
#   finds garbage. Nothing promises that the release stays, so no other promise speaks about it.
# Expected, posix: nothing broken.
. "$(dirname "$0")/steps.sh"

# As in steps.sh, but BROKEN: what is to be removed is overwritten first.
clean_up() {
    on_server '
        kept=0
        all=$(ls -r releases)
        for release in $all; do
            kept=$((kept + 1))
            if [ "$kept" -gt 3 ]; then
                find "releases/$release" -type f -exec shred -n 1 -- {} +
                rm -rf "releases/$release"
            fi
        done' </dev/null
}

sweep
upload
cut_over
clean_up
