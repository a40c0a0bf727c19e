//! From a host's mount table to a profile, or the reason why there is none.

use cutover::remote::mounts::{Mount, find, parse, profile};
use proptest::prelude::*;

const TABLE: &str = "\
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,errors=remount-ro
30 27 8:2 / /srv rw,noatime shared:2 master:7 - xfs /dev/sda2 rw,attr2,inode64
31 30 0:45 / /srv/with\\040space rw - tmpfs tmpfs rw,size=4k
32 27 8:2 /www /var/www rw,noatime - xfs /dev/sda2 rw,attr2,inode64
33 27 0:50 /@data /data rw - btrfs /dev/sdb rw,space_cache=v2,subvolid=256,subvol=/@data
34 27 8:17 / /mnt rw - ext4 /dev/sdb1 rw
35 34 8:18 / /mnt rw - ext4 /dev/sdb2 rw,nobarrier
not a line
36 x - y
";

fn on(path: &str, device: u64) -> String {
    let table = parse(TABLE.as_bytes());
    let found = find(&table, path.as_bytes(), device);
    found.map_or_else(|| "none".to_owned(), |m| format!("{} {}", m.kind, String::from_utf8_lossy(&m.point)))
}

#[test]
fn which_mount() {
    let device = |major: u64, minor: u64| major << 8 | minor;
    assert_eq!(parse(TABLE.as_bytes()).len(), 8);
    assert_eq!(on("/home", device(8, 1)), "ext4 /");
    assert_eq!(on("/srv", device(8, 2)), "xfs /srv");
    assert_eq!(on("/srv/app", device(8, 2)), "xfs /srv");
    assert_eq!(on("/srvother", device(8, 1)), "ext4 /");
    assert_eq!(on("/var/www/app", device(8, 2)), "xfs /var/www");
    assert_eq!(on("/srv/with space/x", device(0, 45)), "tmpfs /srv/with space");
    // The device of a subvolume is in no table; then the path decides, but only there.
    assert_eq!(on("/data/app", 99), "btrfs /data");
    assert_eq!(on("/srv/app", 99), "none");
    // The later of two mounts at one place.
    assert_eq!(on("/mnt/x", device(8, 18)), "ext4 /mnt");
    // Seen through another mount of the same file system (bind mounts, chroots).
    assert_eq!(on("/elsewhere", device(8, 2)), "xfs /var/www");
    // Minor numbers beyond 255 are split in two.
    let loops = parse(b"1 2 7:300 / /x rw - xfs /dev/loop300 rw\n");
    assert!(find(&loops, b"/x", 7 << 8 | 0x2c | 0x100 << 12).is_some());
}

/// `kind options`, and what `/proc/fs/ext4` says.
fn mapped(kind: &str, options: &str, in_effect: Option<&str>) -> String {
    let line = format!("1 2 8:1 / / rw,relatime - {kind} /dev/sda1 {options}\n");
    let mount: Mount = parse(line.as_bytes()).pop().expect("a mount");
    let found = profile(&mount, in_effect.map(str::as_bytes));
    format!(
        "{kind} {options}: {}\n",
        found.map_or_else(|why| format!("no profile, {why}"), |p| p.to_string())
    )
}

#[test]
fn which_profile() {
    // As Linux 6.18 shows them: by default, tuned by mount options, tuned in the superblock, without a journal.
    let ordered = "rw\nbarrier\njournal_checksum\ndata=ordered\n";
    let all: String = [
        mapped("ext4", "rw", Some(ordered)),
        mapped("ext4", "rw,data=ordered", None),
        mapped("ext4", "rw,nobarrier,data=writeback", Some("rw\nnobarrier\ndata=writeback\n")),
        mapped("ext4", "rw", Some("rw\nnobarrier\ndata=writeback\n")),
        mapped("ext4", "rw", Some("rw\nbarrier\ndata=writeback\n")),
        mapped("ext4", "rw,data=journal", Some("rw\nbarrier\ndata=journal\n")),
        mapped("ext4", "rw", Some("rw\nbarrier\ndata=ordered\nfc_debug_force\n")),
        mapped("ext4", "rw,barrier=0,data=ordered", None),
        mapped("ext4", "rw", Some("rw\nbarrier\n")),
        mapped("ext4", "rw", None),
        mapped("xfs", "rw,attr2,inode64", None),
        mapped("xfs", "rw,nobarrier", None),
        mapped("btrfs", "rw,space_cache=v2", None),
        mapped("btrfs", "rw,nodatacow", None),
        mapped("tmpfs", "rw,size=4k", None),
        mapped("overlay", "rw,upperdir=/x", None),
        mapped("nfs4", "rw,hard", None),
        mapped("fuse.sshfs", "rw", None),
        mapped("vfat", "rw", None),
        mapped("zfs", "rw", None),
    ]
    .concat();
    insta::assert_snapshot!(all, @r"
    ext4 rw: ext4-ordered
    ext4 rw,data=ordered: ext4-ordered
    ext4 rw,nobarrier,data=writeback: no profile, ext4: `nobarrier`: the disk may reorder what was synced
    ext4 rw: no profile, ext4: `nobarrier`: the disk may reorder what was synced
    ext4 rw: no profile, ext4: `data=writeback`, only data=ordered is known
    ext4 rw,data=journal: no profile, ext4: `data=journal`, only data=ordered is known
    ext4 rw: no profile, ext4: `fc_debug_force`, only data=ordered is known
    ext4 rw,barrier=0,data=ordered: no profile, ext4: `barrier=0`: the disk may reorder what was synced
    ext4 rw: no profile, ext4: it has no journal
    ext4 rw: no profile, ext4: whether it has a journal, and of which kind, cannot be seen (/proc/fs/ext4)
    xfs rw,attr2,inode64: xfs
    xfs rw,nobarrier: no profile, xfs: `nobarrier`: the disk may reorder what was synced
    btrfs rw,space_cache=v2: btrfs
    btrfs rw,nodatacow: no profile, btrfs: `nodatacow` is not known
    tmpfs rw,size=4k: no profile, tmpfs: it is memory, and empty after a power loss
    overlay rw,upperdir=/x: no profile, overlay: what it writes goes to another file system, which cannot be seen
    nfs4 rw,hard: no profile, nfs4: what survives is up to its server
    fuse.sshfs rw: no profile, fuse.sshfs: what survives is up to the program behind it
    vfat rw: no profile, vfat: it was never modelled
    zfs rw: no profile, zfs: it was never modelled
    ");
}

proptest! {
    #[test]
    fn any_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..400), path in prop::collection::vec(any::<u8>(), 0..40), device: u64) {
        let table = parse(&bytes);
        let _ = find(&table, &path, device).map(|m| profile(m, Some(&bytes)));
    }

    /// What the table escapes comes back as it was.
    #[test]
    fn mount_points_survive(point in prop::collection::vec(1_u8..=255, 0..30)) {
        let point: Vec<u8> = [b"/".as_slice(), &point].concat();
        let escaped: Vec<u8> = point.iter().flat_map(|b| match b {
            b' ' | b'\t' | b'\n' | b'\\' => format!("\\{b:03o}").into_bytes(),
            _ => vec![*b],
        }).collect();
        let line = [b"1 2 8:1 / ".as_slice(), &escaped, b" rw - xfs /dev/sda rw\n"].concat();
        let table = parse(&line);
        prop_assert_eq!(&table.first().expect("a mount").point, &point);
    }
}
