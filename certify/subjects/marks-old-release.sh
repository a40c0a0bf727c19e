#!/bin/sh
# CANARY. correct.sh, but it keeps all releases and leaves a note in the last but two: that it is no longer the
# one to go back to.
#
# Expected, live:
# - immutable_after_cutover: a release changes, after its cutover and before its removal.
# - readers_whole: who reads from that release finds it changed, or parts of it gone.
# Expected, posix: nothing broken. It is not the release before, and no number of releases was promised.
. "$(dirname "$0")/steps.sh"

# BROKEN: a note about a release belongs beside it.
clean_up() {
    on_server '
        old=$(ls -r releases | sed -n 3p)
        [ -z "$old" ] || echo "not to be used" >"releases/$old/NOTE"' </dev/null
}

sweep
upload
cut_over
clean_up
