#!/bin/sh
# CANARY. correct.sh, but the archive goes through a pipe, and its writer fails half-way, between two files. The
# status of a pipeline is that of its last command, and `tar -x` does not miss what never came.
#
# Expected, live:
# - current_complete: half of the files are missing, and success is reported.
# - readers_whole: who reads through `current` finds something else than what was deployed.
# Expected, posix: nothing broken. What was put there is durable; it is only not what was asked for.
. "$(dirname "$0")/steps.sh"

# What `git archive` does when it comes to an object that it cannot read: no end mark, and a status that
# nobody sees.
fails_half_way() {
    (
        cd "$CERTIFY_SOURCE"
        all=$(find . | wc -l)
        find . -print0 | head -z -n "$((all / 2))" | tar -b 1 --no-recursion --null -T - -cf - | head -c -1024
        exit 128
    )
}

# BROKEN: neither the status of the writer nor the number of files is looked at.
upload() {
    fails_half_way | on_server '
        [ "$live" != "releases/$id" ] || exit 0
        rm -rf "releases/$id"
        mkdir "releases/$id"
        tar -C "releases/$id" --no-same-owner -xpf -'
}

sweep
upload
cut_over
clean_up
