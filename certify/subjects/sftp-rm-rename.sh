#!/bin/sh
# CANARY. correct.sh, but it switches by SFTP's own rename, which refuses to replace anything. So it removes
# `current` first. Needs sftp.
#
# Expected, live:
# - never_absent: between the two there is no `current`.
# - current_complete: the same instant, after the first acknowledgement.
# - readers_whole: who looks something up through `current` at that instant finds nothing.
# Expected, posix (ext4, xfs and btrfs as well):
# - current_complete: the power may fail in that instant.
# - durable_ack: during the next deploy the acknowledged release is not what `current` resolves to, and
#   neither is any other.
. "$(dirname "$0")/steps.sh"

# BROKEN: `rename -l` is the rename of the protocol; without -l it is posix-rename@openssh.com, where a server
# has that. (-rm: in the first deploy there is nothing to remove.)
cut_over() {
    link=.current.$id.$$
    on_server "ln -sT 'releases/$id' '$link'; sync -f ." </dev/null
    sftp -q -F "$CERTIFY_SSH_CONFIG" -b - target >/dev/null <<END
cd "$CERTIFY_DEPLOY_PATH"
-rm current
rename -l "$link" current
END
    on_server 'sync .' </dev/null
}

sweep
upload
cut_over
clean_up
