#!/bin/sh
# CANARY. The live release is copied on the server, links into shared/ included, and the files that the new
# version has are unpacked over the copy. Run it with `--shared storage/`; the application has a file
# storage/kept.txt as well.
#
# Expected, live:
# - shared_intact: what is unpacked below storage/ goes through the copied link and over the user's file.
# Expected, posix:
# - shared_intact: as live.
. "$(dirname "$0")/steps.sh"

# An archive of files alone, without directories, as of a list of changed files. Nothing is removed from the
# copy but what the application has no more. BROKEN: tar follows a link on the way to a file.
copy_and_unpack() {
    on_server '
        rm -rf "releases/$id"
        cp -a "$live" "releases/$id"
        cd "releases/$id"
        find . -type f ! -path "./storage/*" -exec rm {} +' </dev/null
    archive=$(mktemp)
    trap 'rm -f "$archive"' EXIT
    (cd "$CERTIFY_SOURCE" && find . ! -type d -print0 | tar --null -T - -cf "$archive")
    on_server 'tar -C "releases/$id" --no-same-owner -xpf -' <"$archive"
}

sweep
if on_server '[ -n "$live" ]' </dev/null; then
    copy_and_unpack
else
    SHARED=storage
    upload
    link_shared
fi
cut_over
clean_up
