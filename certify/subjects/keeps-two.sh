#!/bin/sh
# CANARY. correct.sh, but it keeps one release fewer than it says: two. Run it with `--keep 3`.
#
# Expected, live, from the third deploy on:
# - retention: two releases remain where three were declared.
# - previous_intact: the third one was promised, and is not there.
# - immutable_after_cutover: a removal of what retention promises counts as a change.
# - readers_whole: who still reads from that release, which was promised to stay, loses it.
# Expected, posix:
# - previous_intact: as live. Nothing else: the two that are kept are the right ones.
. "$(dirname "$0")/steps.sh"

# Nothing is newer than the live release (see sweep), so the newest two are the live one and the one
# before it. BROKEN: three were promised.
clean_up() {
    on_server '
        kept=0
        all=$(ls -r releases)
        for release in $all; do
            kept=$((kept + 1))
            [ "$kept" -le 2 ] || rm -rf "releases/$release"
        done' </dev/null
}

sweep
upload
cut_over
clean_up
