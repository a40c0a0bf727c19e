#!/bin/sh
# A small deploy that does it right, by the last of six ways: files travel over SFTP, and the cutover is SFTP's
# posix-rename@openssh.com. Commands are run for the rest: SFTP can neither list what to remove nor, having no
# fsync for directories, make a release durable (see sftp-only.sh).
#
# For applications of files and directories alone: sftp skips symbolic links. The paths of source and target
# must not contain quotes, backslashes or wildcards.
#
# Expected, live: nothing broken.
# Expected, posix: nothing broken.
. "$(dirname "$0")/steps.sh"

# Runs the lines of standard input as SFTP commands in the deploy path; the first that fails ends it.
over_sftp() {
    { echo "cd \"$CERTIFY_DEPLOY_PATH\"" && cat; } |
        sftp -q -F "$CERTIFY_SSH_CONFIG" -b - target >/dev/null
}

upload() {
    live=$(on_server 'echo "$live"' </dev/null)
    [ "$live" != "releases/$id" ] || return 0
    # A directory that is not there yet: into one that is, the source would go under its own name.
    on_server 'rm -rf "releases/$id"' </dev/null
    echo "put -Rp \"$CERTIFY_SOURCE\" \"releases/$id\"" | over_sftp
}

# As in steps.sh: the link, the barrier, the rename, its own barrier.
cut_over() {
    link=.current.$id.$$
    echo "symlink \"releases/$id\" \"$link\"" | over_sftp
    on_server 'sync -f .' </dev/null
    echo "rename \"$link\" current" | over_sftp
    on_server 'sync .' </dev/null
}

sweep
upload
link_shared
cut_over
clean_up
