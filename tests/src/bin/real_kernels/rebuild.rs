//! The images that a power loss may leave of a recorded run.
//!
//! The disk has a volatile cache. What was written before a flush is there after it. Of what was written since the last
//! flush, any subset may be there, and of one of these writes any subset of its sectors. The unit here is therefore the
//! *window*: the writes between two flushes, on top of all that was written before. A subset whose last member is write
//! `m` is what a power loss may leave at any instant from then until the next flush is complete.
//!
//! What is not tried: a disk with forced unit access (the block layer is told that there is none, and sends a flush
//! instead), and a flush that overtakes a write which is still under way (the image is served by one thread).

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use fastrand::Rng;
use sha2::{Digest as _, Sha256};

use crate::image::{Event, Pages, put};
use crate::run::Step;

/// A run on a real file system.
pub(crate) struct Recording {
    /// The image after the setup, with all of it durable.
    pub(crate) base: Arc<Pages>,
    /// What arrived from then on.
    pub(crate) log: Vec<Event>,
    /// Where in the log each operation was.
    pub(crate) steps: Vec<Step>,
    /// Bytes in one sector of the device: what a power loss leaves whole.
    pub(crate) sector_bytes: u32,
}

/// Writes between two flushes.
#[derive(Debug)]
struct Window {
    /// Positions of the writes in the log.
    writes: Vec<usize>,
    /// Position of the flush at its end, or the end of the log.
    end: usize,
}

/// One way to lose power in a window.
#[derive(Clone, Debug)]
pub(crate) struct Loss {
    window: usize,
    /// Which of the window's writes are there.
    there: Vec<bool>,
    /// One of them that is there in part, and which sectors of it are not.
    torn: Option<(usize, Vec<bool>)>,
}

/// Positions in the log at which the power may have gone, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cuts {
    /// First.
    pub(crate) first: usize,
    /// Last.
    pub(crate) last: usize,
}

/// An image to look at.
#[derive(Clone, Debug)]
pub(crate) struct Rebuilt {
    /// The first way in which it came about.
    pub(crate) loss: Loss,
    /// All instants at which some power loss leaves it.
    pub(crate) cuts: Vec<Cuts>,
}

/// The images of a recording.
pub(crate) struct Rebuilder<'r> {
    recording: &'r Recording,
    windows: Vec<Window>,
    /// For each window, what differs from the base when it begins.
    durable: Vec<Pages>,
}

/// Distinct images, and how many were made to find them.
pub(crate) struct Chosen {
    /// The distinct ones.
    pub(crate) images: Vec<Rebuilt>,
    /// How many were made.
    pub(crate) made: usize,
}

impl<'r> Rebuilder<'r> {
    /// Finds the windows of a recording.
    pub(crate) fn new(recording: &'r Recording) -> Self {
        let (mut windows, mut durable) = (Vec::new(), Vec::new());
        let (mut writes, mut pages) = (Vec::new(), Pages::new());
        for (at, event) in recording.log.iter().enumerate() {
            match event {
                Event::Write { .. } => writes.push(at),
                Event::Flush => {
                    durable.push(pages.clone());
                    apply(recording, &mut pages, &writes);
                    windows.push(Window { writes: std::mem::take(&mut writes), end: at });
                }
            }
        }
        durable.push(pages);
        windows.push(Window { writes, end: recording.log.len() });
        Self { recording, windows, durable }
    }

    /// How many flushes there were.
    pub(crate) fn flushes(&self) -> usize {
        self.windows.len() - 1
    }

    /// How many writes there were.
    pub(crate) fn writes(&self) -> usize {
        self.windows.iter().map(|window| window.writes.len()).sum()
    }

    /// What differs from the base.
    pub(crate) fn changed(&self, loss: &Loss) -> Pages {
        let mut pages = self.durable[loss.window].clone();
        let writes = &self.windows[loss.window].writes;
        for (nth, at) in writes.iter().enumerate().filter(|(nth, _)| loss.there[*nth]) {
            let Event::Write { offset, bytes } = &self.recording.log[*at] else { continue };
            match &loss.torn {
                Some((torn, lost)) if *torn == nth => {
                    for (sector, part) in bytes.chunks(self.recording.sector_bytes as usize).enumerate() {
                        if !lost[sector] {
                            put(
                                &self.recording.base,
                                &mut pages,
                                offset + sector as u64 * u64::from(self.recording.sector_bytes),
                                part,
                            );
                        }
                    }
                }
                _ => put(&self.recording.base, &mut pages, *offset, bytes),
            }
        }
        pages
    }

    /// Chooses distinct images: every cut without reordering, and about `count` more, from windows with one write lost or
    /// one kept, random subsets and torn writes.
    pub(crate) fn choose(&self, count: usize, rng: &mut Rng) -> Chosen {
        let mut found: BTreeMap<[u8; 16], usize> = BTreeMap::new();
        let mut chosen = Chosen { images: Vec::new(), made: 0 };
        let weight = |window: &Window| window.writes.len().min(16) + 1;
        let weights: usize = self.windows.iter().map(weight).sum();
        for at in 0..self.windows.len() {
            let room = (count * weight(&self.windows[at]) / weights).max(2);
            let full = chosen.images.len() + self.windows[at].writes.len() + 1 + room;
            for loss in self.losses(at, room, rng) {
                if chosen.images.len() >= full {
                    break;
                }
                chosen.made += 1;
                let cuts = self.cuts(&loss);
                match found.entry(self.digest(&loss)) {
                    Entry::Occupied(known) => {
                        let known = &mut chosen.images[*known.get()].cuts;
                        if !known.contains(&cuts) {
                            known.push(cuts);
                        }
                    }
                    Entry::Vacant(free) => {
                        free.insert(chosen.images.len());
                        chosen.images.push(Rebuilt { loss, cuts: vec![cuts] });
                    }
                }
            }
        }
        chosen
    }

    fn cuts(&self, loss: &Loss) -> Cuts {
        let window = &self.windows[loss.window];
        let last = loss.there.iter().rposition(|there| *there);
        let first = match last {
            Some(nth) => window.writes[nth] + 1,
            // Right after the flush before, or at the beginning.
            None => loss.window.checked_sub(1).map_or(0, |before| self.windows[before].end + 1),
        };
        Cuts { first, last: window.end }
    }

    /// Every prefix, and up to four times as many others as there is room for, since many are the same image.
    fn losses(&self, window: usize, room: usize, rng: &mut Rng) -> Vec<Loss> {
        let count = self.windows[window].writes.len();
        let whole = |there: Vec<bool>| Loss { window, there, torn: None };
        let prefixes = (0..=count).map(|until| whole((0..count).map(|nth| nth < until).collect()));
        if count < 16 && 1 << count <= room {
            let all =
                (0..1_u32 << count).map(|bits| whole((0..count).map(|nth| bits >> nth & 1 == 1).collect()));
            let mut losses: Vec<_> = all.collect();
            losses.extend((losses.len()..room).filter_map(|_| self.torn(window, rng)));
            return losses;
        }
        let one_lost = (0..count).map(|lost| (0..count).map(|nth| nth != lost).collect());
        let one_kept = (0..count).map(|kept| (0..count).map(|nth| nth == kept).collect());
        let mut others: Vec<_> = one_lost.chain(one_kept).map(whole).collect();
        rng.shuffle(&mut others);
        let mut losses: Vec<_> = prefixes.chain(others.into_iter().take(room.div_ceil(2))).collect();
        while losses.len() < count + 1 + room * 4 {
            if rng.u8(0..4) == 0
                && let Some(torn) = self.torn(window, rng)
            {
                losses.push(torn);
            } else {
                losses.push(whole(some(count, rng)));
            }
        }
        losses
    }

    /// A random subset with one write of it torn; nothing where no write has two sectors.
    fn torn(&self, window: usize, rng: &mut Rng) -> Option<Loss> {
        let writes = &self.windows[window].writes;
        let sectors = |nth: usize| match &self.recording.log[writes[nth]] {
            Event::Write { bytes, .. } => bytes.len().div_ceil(self.recording.sector_bytes as usize),
            Event::Flush => 0,
        };
        let candidates: Vec<_> = (0..writes.len()).filter(|nth| sectors(*nth) > 1).collect();
        let torn = *candidates.get(rng.usize(..candidates.len().max(1)))?;
        let mut there = if rng.bool() {
            // The one that was under way when the power went.
            (0..writes.len()).map(|nth| nth <= torn).collect()
        } else {
            some(writes.len(), rng)
        };
        there[torn] = true;
        let mut lost: Vec<_> = (0..sectors(torn)).map(|_| rng.bool()).collect();
        let certain = rng.usize(..lost.len());
        lost[certain] = true;
        Some(Loss { window, there, torn: Some((torn, lost)) })
    }

    /// Equal for equal images.
    fn digest(&self, loss: &Loss) -> [u8; 16] {
        let mut hasher = Sha256::new();
        for (n, page) in &self.changed(loss) {
            let before = self.recording.base.get(n);
            let same = before.map_or_else(|| page.iter().all(|byte| *byte == 0), |before| before == page);
            if !same {
                hasher.update(n.to_le_bytes());
                hasher.update(&page[..]);
            }
        }
        let mut digest = [0; 16];
        digest.copy_from_slice(&hasher.finalize()[..16]);
        digest
    }

    /// In words.
    pub(crate) fn told(&self, loss: &Loss) -> String {
        let window = &self.windows[loss.window];
        let kept = loss.there.iter().filter(|there| **there).count();
        let torn = loss.torn.as_ref().map_or(String::new(), |(nth, lost)| {
            let lost = lost.iter().filter(|lost| **lost).count();
            format!(", write {} without {lost} of its sectors", window.writes[*nth])
        });
        format!(
            "after {} flushes, with {kept} of the {} writes until position {}{torn}",
            loss.window,
            window.writes.len(),
            window.end
        )
    }
}

/// Each with the same chance, which is another each time.
fn some(count: usize, rng: &mut Rng) -> Vec<bool> {
    let chance = rng.u8(32..224);
    (0..count).map(|_| rng.u8(..) < chance).collect()
}

fn apply(recording: &Recording, pages: &mut Pages, writes: &[usize]) {
    for at in writes {
        if let Event::Write { offset, bytes } = &recording.log[*at] {
            put(&recording.base, pages, *offset, bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::image::PAGE_BYTES;

    fn recording() -> Recording {
        let write = |page: u64, byte: u8| Event::Write {
            offset: page * PAGE_BYTES as u64,
            bytes: Arc::from(vec![byte; PAGE_BYTES]),
        };
        let log = vec![write(0, 1), Event::Flush, write(1, 2), write(0, 3), write(2, 0), Event::Flush];
        Recording { base: Arc::default(), log, steps: Vec::new(), sector_bytes: 512 }
    }

    #[test]
    fn what_was_flushed_is_there_and_the_rest_may_be() {
        let recording = recording();
        let rebuilder = Rebuilder::new(&recording);
        let chosen = rebuilder.choose(1000, &mut Rng::with_seed(1));
        let whole: BTreeSet<_> = chosen
            .images
            .iter()
            .filter(|image| image.loss.torn.is_none())
            .map(|image| {
                let pages = rebuilder.changed(&image.loss);
                let byte = |n| pages.get(&n).map_or(0, |page: &crate::image::Page| page[0]);
                ([byte(0), byte(1), byte(2)], image.cuts.clone())
            })
            .collect::<BTreeMap<_, _>>()
            .into_iter()
            .map(|(bytes, cuts)| (bytes, cuts.iter().map(|cuts| (cuts.first, cuts.last)).collect::<Vec<_>>()))
            .collect();
        let expected = BTreeSet::from([
            // Nothing was written, or all of it was lost.
            ([0, 0, 0], vec![(0, 1), (1, 1)]),
            // Before the flush is complete, after it, and with what changes nothing.
            ([1, 0, 0], vec![(1, 1), (2, 5), (5, 5), (3, 5)]),
            ([1, 2, 0], vec![(3, 5), (5, 5)]),
            ([3, 0, 0], vec![(4, 5), (5, 5)]),
            // And after the last flush.
            ([3, 2, 0], vec![(4, 5), (5, 5), (6, 6)]),
        ]);
        assert_eq!(whole, expected);
    }

    #[test]
    fn the_same_seed_chooses_the_same() {
        let recording = recording();
        let choose = |seed| {
            let chosen = Rebuilder::new(&recording).choose(40, &mut Rng::with_seed(seed));
            chosen.images.iter().map(|image| format!("{image:?}")).collect::<Vec<_>>()
        };
        assert_eq!(choose(1), choose(1));
        assert_ne!(choose(1), choose(2));
    }
}
