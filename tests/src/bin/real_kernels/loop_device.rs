//! A loop device over a file, and the few requests to the kernel that have no safe wrapper.
//!
//! The device detaches itself when the last descriptor and mount of it are gone (`LO_FLAGS_AUTOCLEAR`), so nothing is
//! left of it when the process is killed.
//!
//! Source: `include/uapi/linux/loop.h`, `include/uapi/linux/btrfs.h`.

#![allow(unsafe_code, reason = "ioctl(2): each request is written out here with the type that it takes")]

use std::ffi::c_void;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::ioctl::{Ioctl, IoctlOutput, Opcode, Setter, ioctl, opcode};

const LOOP_CONFIGURE: Opcode = 0x4C0A;
const LOOP_CTL_GET_FREE: Opcode = 0x4C82;
const BLKFLSBUF: Opcode = opcode::none(0x12, 97);
const BTRFS_IOC_FORGET_DEV: Opcode = opcode::write::<BtrfsArgs>(0x94, 5);

const AUTOCLEAR: u32 = 4;
const DIRECT_IO: u32 = 16;

/// `struct loop_config`, with `struct loop_info64` written out.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
    reserved: [u64; 8],
}

/// `struct btrfs_ioctl_vol_args`.
#[repr(C)]
struct BtrfsArgs {
    fd: i64,
    name: [u8; 4088],
}

/// A request without argument whose answer is the number that the call returns.
struct Plain<const OPCODE: Opcode>;

// SAFETY: the opcodes that it is used with take no argument and write nothing.
unsafe impl<const OPCODE: Opcode> Ioctl for Plain<OPCODE> {
    type Output = i32;

    const IS_MUTATING: bool = false;

    fn opcode(&self) -> Opcode {
        OPCODE
    }

    fn as_ptr(&mut self) -> *mut c_void {
        std::ptr::null_mut()
    }

    unsafe fn output_from_ptr(answer: IoctlOutput, _: *mut c_void) -> rustix::io::Result<i32> {
        Ok(answer)
    }
}

/// A loop device that is attached.
pub(crate) struct LoopDevice {
    path: PathBuf,
    descriptor: OwnedFd,
}

impl LoopDevice {
    /// Attaches a free device with sectors of this size to a file, past the page cache of the file if it can.
    pub(crate) fn attach(file: &Path, sector_bytes: u32) -> io::Result<Self> {
        let control = rustix::fs::open("/dev/loop-control", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
        let backing = rustix::fs::open(file, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
        // Until it is attached: whoever tries to take the same device holds it alone for a moment, in which no mkfs could
        // open it.
        rustix::fs::flock(&control, FlockOperation::LockExclusive)?;
        loop {
            // SAFETY: takes no argument, answers a number.
            let number = unsafe { ioctl(&control, Plain::<LOOP_CTL_GET_FREE>) }?;
            let path = PathBuf::from(format!("/dev/loop{number}"));
            let descriptor = rustix::fs::open(&path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
            let config = LoopConfig {
                fd: backing.as_raw_fd().cast_unsigned(),
                block_size: sector_bytes,
                device: 0,
                inode: 0,
                rdevice: 0,
                offset: 0,
                size_limit: 0,
                number: 0,
                encrypt_type: 0,
                encrypt_key_size: 0,
                flags: AUTOCLEAR | DIRECT_IO,
                file_name: [0; 64],
                crypt_name: [0; 64],
                encrypt_key: [0; 32],
                init: [0; 2],
                reserved: [0; 8],
            };
            // SAFETY: LOOP_CONFIGURE reads a `struct loop_config`, which this is.
            match unsafe { ioctl(&descriptor, Setter::<LOOP_CONFIGURE, LoopConfig>::new(config)) } {
                Ok(()) => return Ok(Self { path, descriptor }),
                // Somebody else was faster.
                Err(rustix::io::Errno::BUSY) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// `/dev/loopN`.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Another hold on the device: it stays attached for whoever has it.
    pub(crate) fn hold(&self) -> io::Result<OwnedFd> {
        self.descriptor.try_clone()
    }

    /// Writes to the device.
    pub(crate) fn write(&self, mut offset: u64, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let written = rustix::io::pwrite(&self.descriptor, bytes, offset)?;
            offset += written as u64;
            bytes = &bytes[written..];
        }
        Ok(())
    }

    /// Waits until what was written to the device is in its file.
    pub(crate) fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::fsync(&self.descriptor)?)
    }

    /// Drops what the kernel has cached of the device's content: most of it, and not what somebody else holds at the moment.
    pub(crate) fn forget_content(&self) -> io::Result<()> {
        // SAFETY: takes no argument, writes nothing.
        unsafe { ioctl(&self.descriptor, Plain::<BLKFLSBUF>) }?;
        Ok(())
    }

    /// Makes btrfs forget which file system it has seen on the device: else it takes an older image for a stale copy.
    pub(crate) fn forget_btrfs(&self) -> io::Result<()> {
        let control = rustix::fs::open("/dev/btrfs-control", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
        let mut args = BtrfsArgs { fd: 0, name: [0; 4088] };
        let path = self.path.as_os_str().as_encoded_bytes();
        args.name[..path.len()].copy_from_slice(path);
        // SAFETY: BTRFS_IOC_FORGET_DEV reads a `struct btrfs_ioctl_vol_args`, which this is; the name ends in NUL.
        match unsafe { ioctl(&control, Setter::<BTRFS_IOC_FORGET_DEV, BtrfsArgs>::new(args)) } {
            Err(error) if error != rustix::io::Errno::NOENT => Err(error.into()),
            _ => Ok(()),
        }
    }
}

/// The layout that the kernel reads.
const _: () = assert!(size_of::<LoopConfig>() == 304 && size_of::<BtrfsArgs>() == 4096);
