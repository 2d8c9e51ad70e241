//! Decides which nodes one step computes.

use crate::graph::{Error, Graph, NodeId};
use crate::ops::Backend;
use crate::ops::step::Step;

/// A step in the making.
pub(super) struct Group<B: Backend> {
    /// The nodes it computes, first to last.
    pub nodes: Vec<NodeId>,
    /// The nodes it reads: those of its first node, then those that absorbed nodes read beside it.
    pub inputs: Vec<NodeId>,
    pub operation: Box<dyn Step<B>>,
}

/// Groups nodes into steps. A step absorbs the reader of its output as long as there is only one and the
/// operation can. A group runs where its last node stands, when all its inputs are ready.
pub(super) fn fuse<B: Backend>(graph: &Graph, batch: usize) -> Result<Vec<Group<B>>, Error> {
    let mut taken = vec![false; graph.nodes.len()];
    let mut groups = vec![];
    for (id, node) in graph.nodes.iter().enumerate().skip(1) {
        if taken[id] {
            continue;
        }
        let x = node.inputs.first().map(|&input| graph.nodes[input].shape);
        let operation = x.and_then(|x| node.op.step(batch, x));
        let operation = operation.ok_or_else(|| Error::NoStep { node: node.name.clone() })?;
        let mut group = Group { nodes: vec![id], inputs: node.inputs.clone(), operation };
        let mut last = id;
        while let Some(reader) = only_reader(graph, last).filter(|&reader| !taken[reader]) {
            let layer = &graph.nodes[reader];
            let others: Vec<NodeId> = layer.inputs.iter().copied().filter(|&input| input != last).collect();
            // A layer that reads the same value twice needs it as an input of its own.
            let twice = others.len() + 1 != layer.inputs.len();
            if twice || !group.operation.absorb(layer.op.layer()) {
                break;
            }
            group.nodes.push(reader);
            group.inputs.extend(others);
            last = reader;
        }
        group.nodes.iter().for_each(|&n| taken[n] = true);
        groups.push(group);
    }
    groups.sort_by_key(|group| group.nodes.last().copied());
    Ok(groups)
}

fn only_reader(graph: &Graph, node: NodeId) -> Option<NodeId> {
    let mut readers = graph.consumers(node);
    let reader = readers.next()?;
    readers.next().is_none().then_some(reader)
}
