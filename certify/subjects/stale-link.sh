#!/bin/sh
# CANARY. correct.sh, but the temporary link always has the same name, is not removed by the next run, and
# is made without -T: `ln -s` follows what a killed run has left.
#
# Expected, live and posix: nothing broken.
# Expected, runs (`--recoveries 24`), after a crash between `ln` and `mv`:
# - recoverable: with the same version, the new link is made *inside* the release, which then has an entry
#   too many; with the next one, the old link dangles, `ln` fails, and so does every run until somebody
#   removes it.
. "$(dirname "$0")/steps.sh"

# The link that is going to be `current`. BROKEN: what if there is one already?
# Then everything so far, the link itself included, becomes durable: the barrier before the cutover.
# The rename replaces `current` at once. Its directory is made durable before anybody is told.
cut_over() {
    on_server '
        link=next
        ln -s "releases/$id" "$link"
        sync -f .
        mv -T "$link" current
        sync .' </dev/null
}

sweep
upload
link_shared
cut_over
clean_up
