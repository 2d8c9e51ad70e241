//! The flags of several workers, and what they come to.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::masking::typed;
use super::{ConfigError, Masking, Rule};
use crate::distributed::Aggregate;
use crate::graph::Layout;
use crate::mask::{Kind, Quota};

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

/// How several workers train one model.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workers {
    /// How many; at least 2.
    pub count: usize,
    /// Steps of each from one merge to the next.
    pub merge_steps: u32,
    /// Merges from one selection of a mask to the next; 0 for a mask that stays.
    pub reselect_merges: u32,
    /// Which kept weights each trains.
    pub masks: WorkerMasks,
    /// How their changes are put together.
    pub aggregate: Aggregate,
    /// Whether each sees its own part of the training images alone.
    pub shard_data: bool,
}

impl WorkerFlags {
    /// What the flags ask for, with a preset's (workers, steps to a merge); none for a single worker.
    ///
    /// # Errors
    /// When there is no worker, or a flag is given that only several know.
    pub(super) fn workers(
        &self,
        (count, merge_steps): (usize, u32),
        mask: Option<&Masking>,
    ) -> Result<Option<Workers>, ConfigError> {
        let count = self.workers.unwrap_or(count);
        if count == 0 {
            return Err(ConfigError::value("workers", 0, "training needs at least 1 worker"));
        }
        if count == 1 {
            return match self.given().into_iter().find_map(|(flag, value)| Some((flag, value?))) {
                Some((flag, value)) => Err(ConfigError::value(
                    flag,
                    value,
                    "this is for 2 workers or more: --workers, or mpirun's -n with --distributed",
                )),
                None => Ok(None),
            };
        }
        if let (Some(merges), None) = (self.reselect_merges, mask) {
            return Err(ConfigError::value(
                "reselect-merges",
                merges,
                "this is for --mask fisher or --mask random",
            ));
        }
        // By lot no weight is better than another: those that two workers share would only be fewer.
        let random = mask.is_some_and(|mask| mask.kind == Kind::Random);
        let masks = if random { WorkerMasks::Interleaved } else { WorkerMasks::Same };
        Ok(Some(Workers {
            count,
            merge_steps: self.merge_steps.unwrap_or(merge_steps),
            reselect_merges: self.reselect_merges.unwrap_or(10),
            masks: self.worker_masks.unwrap_or(masks),
            aggregate: self.aggregate.unwrap_or_default(),
            shard_data: self.shard_data,
        }))
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
    pub(super) fn agrees(&self, run: Option<&Workers>) -> Result<(), ConfigError> {
        let contradiction = |flag, given, run| Err(ConfigError::Contradiction { flag, given, run });
        let count = run.map_or(1, |run| run.count);
        if let Some(given) = self.workers.filter(|given| *given != count) {
            return contradiction("workers", given.to_string(), count.to_string());
        }
        let Some(run) = run else { return self.workers((1, 1), None).map(drop) };
        for ((flag, given), (_, run)) in self.given().into_iter().zip(run.flags().given()) {
            if let Some(given) = given
                && run.as_ref() != Some(&given)
            {
                return contradiction(flag, given, run.unwrap_or("none".into()));
            }
        }
        Ok(())
    }
}

impl Workers {
    /// The flags that ask for this.
    fn flags(&self) -> WorkerFlags {
        let Workers { count, merge_steps, reselect_merges, masks, aggregate, shard_data } = *self;
        WorkerFlags {
            workers: Some(count),
            merge_steps: Some(merge_steps),
            reselect_merges: Some(reselect_merges),
            worker_masks: Some(masks),
            aggregate: Some(aggregate),
            shard_data,
        }
    }

    /// Whether every value is in its range and goes with the masks.
    ///
    /// # Errors
    /// The first that does not.
    pub(super) fn check(&self, mask: Option<&Masking>, layout: &Layout) -> Result<(), ConfigError> {
        let refuse = |flag, value: String, need: &str| Err(ConfigError::value(flag, value, need));
        if !(2..=MAX_WORKERS).contains(&self.count) {
            let need = format!("must be from 1 to {MAX_WORKERS}");
            return refuse("workers", self.count.to_string(), &need);
        }
        if self.merge_steps == 0 {
            return refuse("merge-steps", "0".into(), "workers must train at least 1 step before they merge");
        }
        if self.aggregate == Aggregate::Sum && self.masks == WorkerMasks::Same {
            let need = "workers that train the same weights would move them several times as far; give --worker-masks \
                        interleaved, or --aggregate mean";
            return refuse("aggregate", "sum".into(), need);
        }
        let Some(mask) = mask else {
            return match self.masks {
                WorkerMasks::Same => Ok(()),
                WorkerMasks::Interleaved => refuse(
                    "worker-masks",
                    "interleaved".into(),
                    "a dense run has no masks; give --mask fisher or random",
                ),
            };
        };
        if mask.mask_every != 0 {
            let need = "with several workers a mask is selected after merges; give --reselect-merges";
            return refuse("mask-every", mask.mask_every.to_string(), need);
        }
        if self.aggregate == Aggregate::Sum && mask.update_rule == Rule::Published {
            let need = "the published rule moves every weight of every worker; give --update-rule strict, or --aggregate \
                        mean";
            return refuse("aggregate", "sum".into(), need);
        }
        match self.quota(mask, layout) {
            Ok(_) => Ok(()),
            Err(error) => {
                let need = format!(
                    "{error}; choose a smaller --keep-ratio, fewer --workers, or --worker-masks same"
                );
                refuse("worker-masks", "interleaved".into(), &need)
            }
        }
    }

    /// How many weights the workers keep between them.
    ///
    /// # Errors
    /// As [`Quota::new`], and when there are not as many.
    pub fn quota(&self, mask: &Masking, layout: &Layout) -> Result<Quota, crate::mask::Error> {
        let quota = mask.quota(layout)?;
        match self.masks {
            WorkerMasks::Same => Ok(quota),
            WorkerMasks::Interleaved => quota.times(self.count),
        }
    }

    /// In words, for the header.
    pub fn describe(&self, masked: bool) -> String {
        let Workers { merge_steps, masks, aggregate, shard_data, .. } = *self;
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
