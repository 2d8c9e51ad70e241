//! The kinds of mask that choose by the network alone, against a plain sort.

use crate::support::device::on_every_device;
use fishmask::graph::network::{Batches, plans};
use fishmask::graph::{Model, Network};
use fishmask::mask::{Choice, Draw, Kind, Quota, select};
use fishmask::ops::Backend;

/// The mask of the largest absolute values, of equal ones those of lower index, and the whole classifier.
fn magnitude<B: Backend>(backend: B) {
    let graph = Model::Resnet18.graph(2).unwrap();
    let layout = graph.layout.clone();
    let mut canonical = layout.to_canonical(&layout.initial_weights(3));
    // Equal magnitudes of either sign, around the place where the mask ends.
    canonical.iter_mut().skip(1).step_by(3).for_each(|weight| *weight = (*weight * 16.0).round() / 16.0);
    let quota = Quota::new(&layout, 0.1).unwrap();
    let mut expected: Vec<u32> = (0..quota.scored as u32).collect();
    let magnitude = |index: &u32| canonical[*index as usize].abs();
    expected.sort_by(|a, b| magnitude(b).total_cmp(&magnitude(a)));
    expected.truncate(quota.chosen);
    expected.extend(quota.scored as u32..canonical.len() as u32);
    expected.sort_unstable();

    let plans = plans(&graph, Batches { training: None, inference: 1 }).unwrap();
    let weights = layout.to_memory(&canonical);
    let mut network = Network::new(graph, plans, backend, &weights, &layout.initial_statistics()).unwrap();
    let Choice::ByNetwork(scores) = Kind::Magnitude.choice() else { panic!("it needs no samples") };
    let scores = scores(&mut network, &Draw { quota, seed: 0, number: 0 }).unwrap();
    let mask = select::largest(&mut network, &scores, quota).unwrap();
    assert_eq!(mask.indices(), expected);
}

on_every_device!(magnitude);
