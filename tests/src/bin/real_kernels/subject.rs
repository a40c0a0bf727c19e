//! What a trial runs: the program of a litmus test, or what a real tool did.

use std::path::Path;

use simfs::View;

use crate::allowed::State;
use crate::deploys::Deploys;
use crate::disk::Failed;
use crate::program::{Op, Program, Wait};
use crate::run::{self, Doing, Simulated, Step};
use crate::served::Served;
use crate::tree::Tree;
use crate::{catalogue, deploys, recorded};

/// See the [module](self).
#[derive(Clone, Copy, Debug)]
pub(crate) enum Subject {
    /// A few operations.
    Litmus(&'static Program),
    /// Deploys.
    Deploys(&'static Deploys),
}

impl Subject {
    /// All that there are, in the order of the tables.
    pub(crate) fn all() -> Vec<Self> {
        let litmus = catalogue::ALL.iter().map(Self::Litmus);
        litmus.chain(deploys::all().iter().map(Self::Deploys)).collect()
    }

    /// Name on the command line and in the table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Litmus(program) => program.name,
            Self::Deploys(deploys) => deploys.name,
        }
    }

    /// What is done with this wait, on a simulated disk. The seed says where deploys wait.
    pub(crate) fn on_simulated(self, wait: Wait, seed: u64) -> Result<Simulated, Failed> {
        match self {
            Self::Litmus(program) => run::on_simulated(program, &program.ops_with(wait)),
            Self::Deploys(Deploys { trace, .. }) => {
                let doings = recorded::doings(trace, wait.seconds > 0, seed);
                Ok(Simulated { trace: trace.clone(), doings })
            }
        }
    }

    /// Makes what is there before it begins, below `root`.
    pub(crate) fn set_up(self, root: &Path, image: &Served) -> Result<(), Failed> {
        match self {
            Self::Litmus(program) => run::on_real(program.setup, 0, root, image)?,
            Self::Deploys(deploys) => {
                recorded::set_up(&deploys.trace, root)?;
                Vec::new()
            }
        };
        run::on_real(&[Op::Syncfs], 0, root, image).map(drop)
    }

    /// Does it below `root`, which is mounted on `image`.
    pub(crate) fn on_real(
        self,
        wait: Wait,
        doings: &[Doing],
        root: &Path,
        image: &Served,
    ) -> Result<Vec<Step>, Failed> {
        match self {
            Self::Litmus(program) => run::on_real(&program.ops_with(wait), wait.seconds, root, image),
            Self::Deploys(deploys) => recorded::on_real(&deploys.trace, doings, wait.seconds, root, image),
        }
    }

    /// What is done and what is not when so many steps are: for people, and of deploys no more than the last and the next.
    pub(crate) fn told(self, wait: Wait, done: usize, simulated: &Simulated) -> [String; 2] {
        let steps: Vec<String> = match self {
            Self::Litmus(program) => program.ops_with(wait).iter().map(ToString::to_string).collect(),
            Self::Deploys(deploys) => {
                simulated.doings.iter().map(|doing| deploys.told(doing.after)).collect()
            }
        };
        let (done, rest) = steps.split_at(done.min(steps.len()));
        let some = match self {
            Self::Litmus(_) => usize::MAX,
            Self::Deploys(_) => 4,
        };
        let (last, next) = (&done[done.len().saturating_sub(some)..], &rest[..rest.len().min(some)]);
        [last.join("; "), next.join("; ")]
    }
}

/// The tree that is there when all is done and nothing is lost.
pub(crate) fn at_the_end(simulated: &Simulated) -> Tree {
    let live = View::live(&simulated.trace, simulated.trace.last());
    State::of(live).map(|state| state.tree).unwrap_or_default()
}
