#!/bin/sh
# CANARY. correct.sh, but `current` is replaced by `ln -sfn`, as in most deploy scripts.
#
# What that does depends on the `ln` of the server. GNU coreutils since 8.27 makes a link under a random
# name and renames it: then this is link-after-barrier.sh in one command. busybox, BSD and older coreutils
# unlink and make a new link: then it is rm-ln.sh.
#
# Expected, live: nothing broken with a GNU `ln`; never_absent and current_complete with the others.
# Expected, posix:
# - current_complete: the renamed entry survives, the text of the new link does not: `current` is an empty
#   link.
# - durable_ack: the same, during the next deploy, when the acknowledged release was what `current` had to
#   keep.
. "$(dirname "$0")/steps.sh"

# The barrier, and then the cutover. BROKEN: the link is made after the barrier.
cut_over() {
    on_server '
        sync -f .
        ln -sfn "releases/$id" current
        sync .' </dev/null
}

sweep
upload
cut_over
clean_up
