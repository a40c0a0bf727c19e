#!/bin/sh
# CANARY. correct.sh without any sync: what every known deploy tool does.
#
# Expected, live: nothing broken.
# Expected, posix (ext4, xfs and btrfs as well):
# - current_complete: the name `current` survives a power loss, the files of the release it names do not.
# - durable_ack: nothing that was reported is durable, ever.
# - previous_intact: nor are the releases before.
. "$(dirname "$0")/steps.sh"

# BROKEN: neither the release nor the link nor the rename is made durable.
cut_over() {
    on_server '
        link=.current.$id.$$
        ln -sT "releases/$id" "$link"
        mv -T "$link" current' </dev/null
}

sweep
upload
cut_over
clean_up
