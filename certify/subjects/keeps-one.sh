#!/bin/sh
# CANARY. correct.sh, but it keeps the new release alone, whose readers may still be in the one before. Run it
# with `--keep 1`, so that keeping one is not by itself a broken promise.
#
# Expected, live:
# - previous_intact: the release that was live before the cutover does not survive the deploy.
# - readers_whole: who still reads from that release loses it.
# Expected, posix:
# - previous_intact: as live.
. "$(dirname "$0")/steps.sh"

# BROKEN: there is nothing left to go back to, and whoever still reads there is cut off.
clean_up() {
    on_server '
        all=$(ls releases)
        for release in $all; do
            [ "$release" = "$id" ] || rm -rf "releases/$release"
        done' </dev/null
}

sweep
upload
cut_over
clean_up
