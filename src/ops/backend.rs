//! The families of operations together.

use super::augment::AugmentOps;
use super::conv::ConvOps;
use super::gather::GatherOps;
use super::linear::LinearOps;
use super::loss::LossOps;
use super::norm::NormOps;
use super::pool::PoolOps;
use super::top_k::TopKOps;

/// A device with every operation.
pub trait Backend:
    AugmentOps + ConvOps + NormOps + PoolOps + LinearOps + LossOps + TopKOps + GatherOps
{
}

impl<B: AugmentOps + ConvOps + NormOps + PoolOps + LinearOps + LossOps + TopKOps + GatherOps> Backend for B {}
