#!/bin/sh
# CANARY. correct.sh, but it cleans up between the rename and the sync that makes the rename durable, and
# keeps only the new release. Run it with `--keep 1`, so that keeping one is not by itself a broken
# promise.
#
# Expected, live:
# - previous_intact: the release that was live before the cutover does not survive the deploy.
# - readers_whole: who resolved `current` to it before the cutover loses it while reading.
# Expected, posix (btrfs as well; ext4 and xfs keep the rename and the removals in order: there only the last one):
# - current_complete: after a power loss `current` is the old link, and its release has been emptied.
# - durable_ack: the same: what was acknowledged last is gone, and what was to replace it is not named.
# - previous_intact: the same, seen from the release.
# With `--keep 3`, live: retention and immutable_after_cutover as well.
. "$(dirname "$0")/steps.sh"

# The link that is going to be `current`, under a name of this run alone. -T: never into a directory.
# Then everything so far, the link itself included, becomes durable: the barrier before the cutover.
# BROKEN: the rename replaces `current` at once, but only in memory, and what it replaced goes next.
cut_over() {
    on_server '
        link=.current.$id.$$
        ln -sT "releases/$id" "$link"
        sync -f .
        mv -T "$link" current' </dev/null
}

clean_up() {
    on_server '
        all=$(ls releases)
        for release in $all; do
            [ "$release" = "$id" ] || rm -rf "releases/$release"
        done' </dev/null
}

make_durable() {
    on_server 'sync .' </dev/null
}

sweep
upload
cut_over
clean_up
make_durable
