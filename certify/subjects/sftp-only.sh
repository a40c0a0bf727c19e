#!/bin/sh
# CANARY. correct-sftp.sh, but with nothing but SFTP from the upload to the cutover. `put -f` is an fsync of each
# file (fsync@openssh.com); SFTP has none for directories. For applications of files and directories alone.
# Needs sftp.
#
# Expected, live: nothing broken.
# Expected, posix:
# - current_complete: the name `current` survives a power loss; the names of the files it leads to do not.
# - durable_ack: the same, and the rename itself is not durable.
# - previous_intact: nor is anything of the releases before.
. "$(dirname "$0")/steps.sh"

# BROKEN: no directory is ever durable.
upload_and_cut_over() {
    link=.current.$id.$$
    sftp -q -F "$CERTIFY_SSH_CONFIG" -b - target >/dev/null <<END
cd "$CERTIFY_DEPLOY_PATH"
put -Rpf "$CERTIFY_SOURCE" "releases/$id"
symlink "releases/$id" "$link"
rename "$link" current
END
}

sweep
upload_and_cut_over
clean_up
