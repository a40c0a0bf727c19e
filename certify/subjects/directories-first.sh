#!/bin/sh
# CANARY. correct-fdatasync.sh, but directories are made and synced first, files afterwards: executables by fsync, which
# covers their modes however they came by them, the others by fdatasync.
#
# Expected, live: nothing broken.
# Expected, posix (not ext4, xfs and btrfs, on which a sync of a file takes its name along):
# - current_complete: the content of each file is durable, its name is not.
# - durable_ack: the same, after success was reported.
# - previous_intact: the releases before are no better.
. "$(dirname "$0")/steps.sh"

# Directories and symbolic links, or files.
archive_of() {
    (cd "$CERTIFY_SOURCE" && find . "$@" -type f -print0 | tar --null --no-recursion -cf "$archive" -T -)
}

# BROKEN: what syncs a directory has to come after the files in it have got their names.
upload() {
    archive=$(mktemp)
    trap 'rm -f "$archive"' EXIT
    archive_of !
    on_server '
        [ "$live" != "releases/$id" ] || exit 0
        rm -rf "releases/$id"
        mkdir "releases/$id"
        tar -C "releases/$id" --no-same-owner -xpf -
        find "releases/$id" -type d -exec sync {} +
        sync releases' <"$archive"
    archive_of
    on_server '
        [ "$live" != "releases/$id" ] || exit 0
        tar -C "releases/$id" --no-same-owner -xpf -
        find "releases/$id" -type f -perm -100 -exec sync {} +
        find "releases/$id" -type f ! -perm -100 -exec sync --data {} +' <"$archive"
}

cut_over() {
    on_server '
        link=.current.$id.$$
        ln -sT "releases/$id" "$link"
        sync .
        mv -T "$link" current
        sync .' </dev/null
}

sweep
upload
cut_over
clean_up
