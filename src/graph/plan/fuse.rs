//! Which nodes one step computes.

use crate::graph::{Error, Graph, NodeId, Op};

/// Nodes that one step computes, first to last, and a fused batch norm's second input.
pub(super) struct Group {
    pub nodes: Vec<NodeId>,
    pub residual: Option<NodeId>,
}

/// Groups nodes into steps: linear + scale, and batch norm + ReLU + add + ReLU + max pool as far as each has a
/// single reader. A group runs where its last node stands, when its second input is ready.
pub(super) fn fuse(graph: &Graph) -> Result<Vec<Group>, Error> {
    let mut taken = vec![false; graph.nodes.len()];
    let mut groups = vec![];
    for (id, node) in graph.nodes.iter().enumerate().skip(1) {
        if taken[id] {
            continue;
        }
        let mut group = Group { nodes: vec![id], residual: None };
        // The only reader of the group's last node, if nothing else has taken it.
        let next = |group: &Group, taken: &[bool]| {
            let last = *group.nodes.last().unwrap_or(&id);
            let mut readers = graph.consumers(last);
            let reader = readers.next()?;
            (readers.next().is_none() && !taken[reader]).then_some(reader)
        };
        match node.op {
            Op::Conv { .. } | Op::GlobalAveragePool => {}
            Op::Linear { .. } => {
                if let Some(reader) = next(&group, &taken)
                    && matches!(graph.nodes[reader].op, Op::Scale(_))
                {
                    group.nodes.push(reader);
                }
            }
            Op::BatchNorm { .. } => {
                // The operations that may follow, each at most once and in this order.
                let follows: [fn(&Op) -> bool; 4] = [
                    |op| matches!(op, Op::Relu),
                    |op| matches!(op, Op::Add),
                    |op| matches!(op, Op::Relu),
                    |op| matches!(op, Op::MaxPool(_)),
                ];
                for (place, fits) in follows.iter().enumerate() {
                    let Some(reader) = next(&group, &taken) else { break };
                    if !fits(&graph.nodes[reader].op) || (place == 2 && group.residual.is_none()) {
                        continue;
                    }
                    if place == 1 {
                        let last = group.nodes[group.nodes.len() - 1];
                        group.residual = graph.nodes[reader].inputs.iter().copied().find(|&i| i != last);
                        // A value added to itself is no residual.
                        if group.residual.is_none() {
                            break;
                        }
                    }
                    group.nodes.push(reader);
                }
            }
            _ => return Err(Error::NoStep { node: node.name.clone() }),
        }
        group.nodes.iter().for_each(|&n| taken[n] = true);
        groups.push(group);
    }
    groups.sort_by_key(|group| group.nodes.last().copied());
    Ok(groups)
}
