//! The host's tar archives of symbolic links, one or several after the other.
#![no_main]

use std::collections::BTreeMap;

use cutover::path::RelPath;
use cutover::remote::listing::parse_links;
use libfuzzer_sys::fuzz_target;
use tar::{EntryType, Header};

fuzz_target!(|data: &[u8]| {
    if let Some(links) = parse_links(data) {
        // A host's archive cannot hold an empty text or a NUL, a hostile one can. What is compared is not written.
        let plain = |text: &Vec<u8>| !text.is_empty() && !text.contains(&0);
        let links: BTreeMap<RelPath, Vec<u8>> = links.into_iter().filter(|(_, text)| plain(text)).collect();
        come_back(&links);
    }
    // The same bytes as lines: a path and a text, taking turns.
    let lines: Vec<&[u8]> = data.split(|byte| *byte == b'\n').collect();
    let pairs = lines.chunks_exact(2).filter_map(|pair| {
        let text = pair[1].to_vec();
        let path = RelPath::new(pair[0]).filter(|path| !path.is_root())?;
        (!text.is_empty() && !text.contains(&0)).then_some((path, text))
    });
    come_back(&pairs.collect());
});

/// Archived as tar does it, alone and twice in a row, links are what they were, byte for byte.
fn come_back(links: &BTreeMap<RelPath, Vec<u8>>) {
    let mut archive = Vec::new();
    for (path, text) in links {
        entry(&mut archive, &path.dotted(), text);
    }
    archive.extend([0; 1024]);
    assert_eq!(parse_links(&archive).as_ref(), Some(links));
    let twice = [&archive[..], &archive[..]].concat();
    assert_eq!(parse_links(&twice).as_ref(), Some(links));
}

fn entry(archive: &mut Vec<u8>, name: &[u8], text: &[u8]) {
    // GNU tar writes what does not fit into the header ahead of it, as a file with this name.
    for (kind, long) in [(b'L', name), (b'K', text)] {
        if long.len() > 100 {
            header(archive, b"././@LongLink", EntryType::new(kind), long.len() as u64 + 1, b"");
            archive.extend_from_slice(long);
            archive.push(0);
            archive.resize(archive.len().next_multiple_of(512), 0);
        }
    }
    header(archive, name, EntryType::Symlink, 0, text);
}

fn header(archive: &mut Vec<u8>, name: &[u8], kind: EntryType, size: u64, text: &[u8]) {
    let mut header = Header::new_gnu();
    let old = header.as_old_mut();
    old.name.iter_mut().zip(name).for_each(|(to, from)| *to = *from);
    old.linkname.iter_mut().zip(text).for_each(|(to, from)| *to = *from);
    header.set_entry_type(kind);
    header.set_mode(0o777);
    header.set_size(size);
    header.set_cksum();
    archive.extend_from_slice(header.as_bytes());
}
