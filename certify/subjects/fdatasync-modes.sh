#!/bin/sh
# CANARY. correct-copy-fsync.sh, but files are synced by fdatasync (`sync --data`), which is enough for their
# bytes, and not for the mode that a file got after it was made. For applications whose modes are 644 and 755.
#
# Expected, live: nothing broken.
# Expected, posix (btrfs as well; on ext4 and xfs an fsync of a directory later takes the modes along):
# - current_complete: a file is there, with its bytes, and with the mode it was made with.
# - durable_ack: the same, after success was reported.
# - previous_intact: the releases before are no better.
. "$(dirname "$0")/steps.sh"

# Files are made for their owner alone, and opened to others when they are whole.
upload_with_umask() {
    archive=$(mktemp)
    trap 'rm -f "$archive"' EXIT
    tar -C "$CERTIFY_SOURCE" -cf "$archive" .
    on_server '
        [ "$live" != "releases/$id" ] || exit 0
        rm -rf "releases/$id"
        umask 077
        mkdir "releases/$id"
        tar -C "releases/$id" --no-same-owner --no-same-permissions -xf -
        chmod -R u=rwX,go=rX "releases/$id"' <"$archive"
}

# BROKEN: a mode is not data.
cut_over() {
    on_server '
        find "releases/$id" -type f -exec sync --data {} +
        find "releases/$id" -type d -exec sync {} +
        link=.current.$id.$$
        ln -sT "releases/$id" "$link"
        sync releases .
        mv -T "$link" current
        sync .' </dev/null
}

sweep
upload_with_umask
cut_over
clean_up
