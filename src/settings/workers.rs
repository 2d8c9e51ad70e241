//! The flags of several workers, and what they come to.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::masking::typed;
use super::{Config, ConfigError, MaskSettings, WorkerSettings};
use crate::distributed::Aggregate;
use crate::graph::Layout;
use crate::mask::{Kind, Quota};
use crate::optim::UpdateRule;

/// More workers than any run is meant for.
const MAX_WORKERS: usize = 4096;

/// Which worker trains which of the kept weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum WorkerMasks {
    /// All of them train the same.
    #[default]
    Same,
    /// Each its own: as many times more are kept, and dealt out in turn.
    Interleaved,
}

/// The flags that say how several workers train one model.
#[derive(Clone, Debug, Default, PartialEq, clap::Args)]
pub struct WorkerFlags {
    /// Workers that train apart and merge every so often; under --distributed one a process [default: 1; workers 2]
    #[arg(long, value_name = "W")]
    pub workers: Option<usize>,
    /// Steps of each worker from one merge to the next [default: 100; workers-quick 20]
    #[arg(long, value_name = "STEPS")]
    pub merge_steps: Option<u32>,
    /// Merges until a mask is selected anew; 0 never [default: 10]
    #[arg(long, value_name = "MERGES")]
    pub reselect_merges: Option<u32>,
    /// Whether workers train the same kept weights or each its own [default: same; interleaved for --mask random]
    #[arg(long, value_enum)]
    pub worker_masks: Option<WorkerMasks>,
    /// How workers' changes are put together; sum is for interleaved masks [default: mean]
    #[arg(long, value_enum)]
    pub aggregate: Option<Aggregate>,
    /// Give each worker its own part of the training images, rather than all of them
    #[arg(long)]
    pub shard_data: bool,
}

impl WorkerFlags {
    /// What the flags ask for, with a recipe's (workers, steps to a merge).
    ///
    /// # Errors
    /// When there is no worker, or a flag is given that only several know.
    pub(super) fn resolve(
        &self,
        (count, merge_steps): (usize, u32),
        mask: &MaskSettings,
    ) -> Result<WorkerSettings, ConfigError> {
        let count = self.workers.unwrap_or(count);
        if count == 0 {
            return Err(ConfigError::value("workers", 0, "training needs at least 1 worker"));
        }
        if count == 1
            && let Some((flag, value)) =
                self.given().into_iter().find_map(|(flag, value)| Some((flag, value?)))
        {
            let need = "this is for 2 workers or more: --workers, or mpirun's -n with --distributed";
            return Err(ConfigError::value(flag, value, need));
        }
        if let (Some(merges), Kind::Dense) = (self.reselect_merges, mask.kind) {
            let need = "this is for --mask fisher or --mask random";
            return Err(ConfigError::value("reselect-merges", merges, need));
        }
        // By lot no weight is better than another: those that two workers share would only be fewer.
        let masks = if mask.kind == Kind::Random { WorkerMasks::Interleaved } else { WorkerMasks::Same };
        Ok(WorkerSettings {
            count,
            merge_steps: self.merge_steps.unwrap_or(merge_steps),
            reselect_merges: self.reselect_merges.unwrap_or(10),
            masks: self.worker_masks.unwrap_or(masks),
            aggregate: self.aggregate.unwrap_or_default(),
            shard_data: self.shard_data,
        })
    }

    /// Each flag but `workers`, and its value as it is typed if it was given.
    fn given(&self) -> [(&'static str, Option<String>); 5] {
        [
            ("merge-steps", self.merge_steps.map(|v| v.to_string())),
            ("reselect-merges", self.reselect_merges.map(|v| v.to_string())),
            ("worker-masks", self.worker_masks.map(typed)),
            ("aggregate", self.aggregate.map(typed)),
            ("shard-data", self.shard_data.then(String::new)),
        ]
    }

    /// Whether these flags, given with `--resume`, say the same as the run.
    ///
    /// # Errors
    /// The first that says something else.
    pub(super) fn agrees(&self, run: &Config) -> Result<(), ConfigError> {
        let contradiction = |flag, given, run| Err(ConfigError::Contradiction { flag, given, run });
        let count = run.workers.count;
        if let Some(given) = self.workers.filter(|given| *given != count) {
            return contradiction("workers", given.to_string(), count.to_string());
        }
        if count == 1 {
            return self.resolve((1, 1), &run.mask).map(drop);
        }
        for ((flag, given), (_, run)) in self.given().into_iter().zip(WorkerFlags::of(run).given()) {
            if let Some(given) = given
                && run.as_ref() != Some(&given)
            {
                return contradiction(flag, given, run.unwrap_or("none".into()));
            }
        }
        Ok(())
    }

    /// The flags that ask for a run's workers.
    fn of(run: &Config) -> WorkerFlags {
        let WorkerSettings { count, merge_steps, reselect_merges, masks, aggregate, shard_data } =
            run.workers;
        WorkerFlags {
            workers: Some(count),
            merge_steps: Some(merge_steps),
            reselect_merges: Some(reselect_merges),
            worker_masks: Some(masks),
            aggregate: Some(aggregate),
            shard_data,
        }
    }
}

/// Whether a run's workers, if there are several, can be and go with its mask.
///
/// # Errors
/// The first value that does not.
pub(super) fn check(config: &Config, layout: &Layout) -> Result<(), ConfigError> {
    let refuse = |flag, value: String, need: &str| Err(ConfigError::value(flag, value, need));
    let (workers, mask) = (&config.workers, &config.mask);
    if !(1..=MAX_WORKERS).contains(&workers.count) {
        return refuse("workers", workers.count.to_string(), &format!("must be from 1 to {MAX_WORKERS}"));
    }
    if !config.has_workers() {
        return Ok(());
    }
    if workers.merge_steps == 0 {
        return refuse("merge-steps", "0".into(), "workers must train at least 1 step before they merge");
    }
    if workers.aggregate == Aggregate::Sum && workers.masks == WorkerMasks::Same {
        let need = "workers that train the same weights would move them several times as far; give --worker-masks \
                    interleaved, or --aggregate mean";
        return refuse("aggregate", "sum".into(), need);
    }
    if !config.is_masked() {
        return match workers.masks {
            WorkerMasks::Same => Ok(()),
            WorkerMasks::Interleaved => refuse(
                "worker-masks",
                "interleaved".into(),
                "a dense run has no masks; give --mask fisher or random",
            ),
        };
    }
    if mask.every != 0 {
        let need = "with several workers a mask is selected after merges; give --reselect-merges";
        return refuse("mask-every", mask.every.to_string(), need);
    }
    if workers.aggregate == Aggregate::Sum && mask.rule == UpdateRule::Published {
        let need = "the published rule moves every weight of every worker; give --update-rule strict, or --aggregate \
                    mean";
        return refuse("aggregate", "sum".into(), need);
    }
    match workers.quota(mask, layout) {
        Ok(_) => Ok(()),
        Err(error) => {
            let need =
                format!("{error}; choose a smaller --keep-ratio, fewer --workers, or --worker-masks same");
            refuse("worker-masks", "interleaved".into(), &need)
        }
    }
}

impl WorkerSettings {
    /// How many weights the workers keep between them.
    ///
    /// # Errors
    /// As [`Quota::new`], and when there are not as many.
    pub fn quota(&self, mask: &MaskSettings, layout: &Layout) -> Result<Quota, crate::mask::Error> {
        let quota = mask.quota(layout)?;
        match self.masks {
            WorkerMasks::Same => Ok(quota),
            WorkerMasks::Interleaved => quota.times(self.count),
        }
    }

    /// In words, for the header.
    pub fn describe(&self, masked: bool) -> String {
        let WorkerSettings { merge_steps, masks, aggregate, shard_data, .. } = *self;
        let mut text = format!("merged every {merge_steps} steps by their {}", typed(aggregate));
        if masked {
            text += match masks {
                WorkerMasks::Same => ", all with the same mask",
                WorkerMasks::Interleaved => ", each with its own mask",
            };
        }
        if shard_data {
            text += ", each with its part of the images";
        }
        text
    }
}
