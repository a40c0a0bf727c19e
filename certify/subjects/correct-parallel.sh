#!/bin/sh
# correct.sh, but three connections upload a part of the release each, at once: a deploy that does it right and
# has another trace each time. Record it several times: `--recordings 5`.
#
# Expected, live: nothing broken.
# Expected, posix: nothing broken.
. "$(dirname "$0")/parts.sh"

upload() {
    on_server 'rm -rf "releases/$id"; mkdir "releases/$id"' </dev/null
    upload_part 1 & first=$!
    upload_part 2 & second=$!
    upload_part 3 & third=$!
    # One by one: `wait` without a number forgets how they ended.
    wait "$first"
    wait "$second"
    wait "$third"
}

sweep
upload
link_shared
cut_over
clean_up
